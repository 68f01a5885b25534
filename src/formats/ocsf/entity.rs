//! What the portal keeps, such as policies, and what became different about it.

use super::Context;
use super::class::{Class, Mapping, Profiles};
use super::common::{self, Front, UNKNOWN};
use crate::formats::out::{From, Out, Value};
use crate::model::Change;
use crate::record::entity::{Entity, EntityKind};
use crate::record::row::Slots;

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, entity: &Entity<'_>) {
    let (activity, activity_name) = match entity.change {
        Change::New => (1, "Create"),
        Change::Changed => (3, "Update"),
        Change::Removed => (4, "Delete"),
        Change::Restated => (99, "Other"),
    };
    let front = Front {
        mapping: Mapping { class: Class::Entity, activity, activity_name },
        profiles: Profiles::None,
        activity_name: None,
        from: Slots::NONE,
        severity: entity.severity,
        severity_from: entity.severity_from,
        id: None,
        time: None,
        organization: entity.organization,
        code: None,
    };
    common::write_front(out, context, &front);
    let detail = match entity.change {
        Change::New => "added",
        Change::Changed => "changed",
        Change::Removed => "removed",
        Change::Restated => "restated",
    };
    out.word("status_detail", detail, "why there is a record of it now");
    if entity.change == Change::Changed {
        write_message(out, context, entity);
        out.open("entity");
        write_former(out, context, entity);
        out.close();
        out.open("entity_result");
    } else {
        out.open("entity");
    }
    write_present(out, context, entity);
    out.close();
    common::write_rest(out, context);
}

fn kind(out: &mut impl Out, entity: &Entity<'_>) {
    let (id, caption) = match entity.kind {
        EntityKind::Organization => (4, "Organization"),
        EntityKind::Policy => (5, "Policy"),
    };
    out.fixed("type_id", id, "by the source");
    out.word("type", caption, "by the source");
}

/// It as it is in the row.
fn write_present(out: &mut impl Out, context: &Context<'_>, entity: &Entity<'_>) {
    kind(out, entity);
    match (entity.name, entity.id) {
        (None, None) => out.word("name", UNKNOWN, "where the row does not say"),
        (name, id) => {
            out.text("name", name);
            out.text("uid", id);
        }
    }
    if entity.name.is_some() || entity.id.is_some() {
        out.open(match entity.kind {
            EntityKind::Policy => "policy",
            EntityKind::Organization => "org",
        });
        out.text("name", entity.name);
        out.text("uid", entity.id);
        if entity.kind == EntityKind::Policy {
            out.text("desc", entity.description);
            if entity.group.is_some() {
                out.open("group");
                out.text("name", entity.group);
                out.text("uid", entity.group_id);
                out.close();
            }
        }
        out.close();
    }
    let told = out.told();
    out.open("data");
    for field in entity.facts.iter().filter(|slot| !told.contains(**slot)) {
        if let Some(field) = context.record.row.get(*field) {
            out.put(context.name_of(field), Value::Json(field.raw()), From::field_if(field, "verbatim"));
        }
    }
    out.close();
}

/// It as it was, with the former value of every member that differs; `null` where it had none.
fn write_former(out: &mut impl Out, context: &Context<'_>, entity: &Entity<'_>) {
    const RULE: From = From::fixed("of what differs, as it stood in the row before");
    kind(out, entity);
    let former_name = entity.name.and_then(|name| {
        let name = context.name_of(name);
        entity.differences.iter().find(|member| member.name == name)?.before
    });
    let former_name = former_name
        .and_then(|raw| raw.strip_prefix('"')?.strip_suffix('"'))
        .filter(|name| !name.is_empty() && name.len() <= context.version.longest_text());
    match (former_name, entity.name, entity.id) {
        (Some(name), ..) => out.put("name", Value::Escaped(name), RULE),
        (None, Some(name), _) => out.text("name", Some(name)),
        (None, None, None) => out.word("name", UNKNOWN, "where the row does not say"),
        (None, None, Some(_)) => {}
    }
    out.text("uid", entity.id);
    out.open("data");
    for member in &entity.differences {
        out.put(member.name, Value::Json(member.before.unwrap_or("null")), RULE);
    }
    out.close();
}

/// Which members differ.
fn write_message(out: &mut impl Out, context: &Context<'_>, entity: &Entity<'_>) {
    let names: Vec<&str> = entity.differences.iter().map(|member| member.name).collect();
    let names = names.join(", ");
    if !names.is_empty() && names.len() <= context.version.longest_text() {
        out.put("message", Value::Escaped(&names), From::fixed("which members differ from the row before"));
    }
}
