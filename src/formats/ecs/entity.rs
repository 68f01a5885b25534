//! What the portal keeps, such as policies, and what became different about it.

use super::front::{self, Front, Name};
use super::{Context, class, objects, rest};
use crate::formats::out::{From, Out, Value};
use crate::model::Change;
use crate::record::entity::{Entity, EntityKind};
use crate::record::row::Slots;

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, entity: &Entity<'_>) {
    let front = Front {
        kind: "event",
        class: class::of_entity(entity.change),
        from: Slots::NONE,
        action: Name::Ours(action(entity)),
        outcome: None,
        severity: entity.severity,
        severity_from: entity.severity_from,
        time: None,
        received: None,
        observer: "portal",
    };
    front::write(out, context, &front);
    objects::organization(out, context, entity.organization, entity.organization_name);
    if entity.kind == EntityKind::Policy {
        out.open("rule");
        out.text("id", entity.id);
        out.text("name", entity.name);
        out.text("description", entity.description);
        out.text("ruleset", entity.group);
        out.close();
    }

    out.open("threatlocker");
    for (key, is_before) in [("before", true), ("after", false)] {
        out.open(key);
        for member in &entity.differences {
            if let Some(value) = if is_before { member.before } else { member.after } {
                out.put(
                    member.name,
                    Value::Json(value),
                    From::fixed("of what differs, as it was and is in the row"),
                );
            }
        }
        out.close();
    }
    rest::remainder(out, context);
    out.close();
}

fn action(entity: &Entity<'_>) -> &'static str {
    match (entity.kind, entity.change) {
        (EntityKind::Policy, Change::New) => "policy-added",
        (EntityKind::Policy, Change::Changed) => "policy-changed",
        (EntityKind::Policy, Change::Removed) => "policy-removed",
        (EntityKind::Policy, Change::Restated) => "policy-restated",
        (EntityKind::Organization, Change::New) => "organization-added",
        (EntityKind::Organization, Change::Changed) => "organization-changed",
        (EntityKind::Organization, Change::Removed) => "organization-removed",
        (EntityKind::Organization, Change::Restated) => "organization-restated",
    }
}
