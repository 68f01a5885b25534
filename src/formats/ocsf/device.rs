//! Devices as they are, and what became different on them.

use super::class::{Class, Mapping, Profiles};
use super::common::{self, Front, UNKNOWN};
use super::objects::{self, User};
use super::{Context, Version};
use crate::formats::out::{From, Out, Value};
use crate::model::Change;
use crate::record::device::{Checkin, Compared, Device, DeviceChange, Difference, Switch};
use crate::record::event::Severity;
use crate::record::row::{Field, Slots, is_address};

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, device: &Device<'_>) {
    let (activity, activity_name) = if device.checkin.is_some() { (1, "Log") } else { (2, "Collect") };
    let mapping = Mapping { class: Class::Inventory, activity, activity_name };
    let front = Front {
        id: device.checkin.as_ref().and_then(|checkin| checkin.id),
        time: device.checkin.as_ref().and_then(|checkin| checkin.time),
        ..front(mapping, Severity::Informational, device.organization)
    };
    common::write_front(out, context, &front);
    out.fixed("status_id", 1, "it was collected");
    out.word("status", "Success", "it was collected");
    let detail = match device.change {
        _ if device.checkin.is_some() => "checked in",
        Change::New if context.known.replaces.is_none() => "added",
        Change::New | Change::Changed => "changed",
        Change::Removed => "removed",
        Change::Restated => "restated",
    };
    out.word("status_detail", detail, "why there is a record of the device now");
    out.open("device");
    match &device.checkin {
        Some(checkin) => of_checkin(out, context, device, checkin),
        None => identity(out, context, device.id, device.hostname, device.name),
    }
    if let Some(replaced) = context.known.replaces {
        out.put(
            "uid_alt",
            Value::Text(replaced.id),
            From::fixed("the device of a report that goes on as this one"),
        );
    }
    objects::unknown_type(out);
    objects::os(out, device.platform, device.os, None);
    out.open_list("groups");
    out.open("");
    out.text("name", device.group);
    out.text("uid", device.group_id);
    out.close();
    out.close_list();
    out.open("org");
    out.text("name", device.organization_name);
    out.text("uid", device.organization);
    out.close();
    out.text("ip", device.address);
    out.text("mac", device.mac);
    local_addresses(out, device.local_addresses);
    for (key, time) in [("last_seen_time", device.last_seen), ("first_seen_time", device.first_seen)] {
        if let Some(time) = time {
            let milliseconds = Value::Integer(time.at.div_euclid(1_000));
            out.put(key, milliseconds, From::derived(time.field.slot(), "in milliseconds since 1970"));
        }
    }
    out.open("hw_info");
    out.text("serial_number", device.serial);
    out.close();
    managed(out, device.is_managed);
    if device.is_managed {
        agents(out, context, device);
    }
    match (device.user, &context.known.user) {
        (Some(name), _) => objects::user(out, "owner", User { name: Some(name), ..User::default() }),
        (None, Some(user)) => objects::last_user(out, "owner", user),
        (None, None) => {}
    }
    out.close();
    objects::enrichments(out, context);
    common::write_rest(out, context);
}

/// What names the device of a check-in, whose row tells but an id.
fn of_checkin(out: &mut impl Out, context: &Context<'_>, device: &Device<'_>, checkin: &Checkin<'_>) {
    match (device.id, checkin.computer_id) {
        (None, Some(id)) => {
            let rule = "the computer that was asked about, where the row names none";
            out.put("uid", Value::Text(id), From::fixed(rule));
        }
        (id, _) => out.text("uid", id),
    }
    match context.known.device.and_then(|device| device.name) {
        Some(name) => {
            let rule = "the device's name as listed before it was collected, where known";
            out.put("name", Value::Text(name), From::fixed(rule));
        }
        None if device.id.is_none() && checkin.computer_id.is_none() => {
            out.word("name", UNKNOWN, "where the row names no device")
        }
        None => {}
    }
}

/// The agent and its service.
fn agents(out: &mut impl Out, context: &Context<'_>, device: &Device<'_>) {
    out.open_list("agent_list");
    out.open("");
    out.word("name", "ThreatLocker", "of the product");
    out.word("vendor_name", "ThreatLocker", "of the product");
    out.text("version", device.agent_version);
    policies(out, context, device);
    out.close();
    if device.service_version.is_some() {
        out.open("");
        out.word("name", "ThreatLocker service", "of the product");
        out.word("vendor_name", "ThreatLocker", "of the product");
        out.text("version", device.service_version);
        out.close();
    }
    out.close_list();
}

/// That a device has no agent; that it has one, its agent tells.
fn managed(out: &mut impl Out, is_managed: bool) {
    if !is_managed {
        out.put("is_managed", Value::Boolean(false), From::fixed("it has no agent"));
    }
}

fn front<'a>(mapping: Mapping, severity: Severity, organization: Option<Field<'a>>) -> Front<'a> {
    Front {
        mapping,
        profiles: Profiles::None,
        activity_name: None,
        from: Slots::default(),
        severity,
        severity_from: Slots::default(),
        id: None,
        time: None,
        organization,
        code: None,
    }
}

/// What names a device; the schema wants one of them.
fn identity(
    out: &mut impl Out,
    context: &Context<'_>,
    id: Option<Field<'_>>,
    hostname: Option<Field<'_>>,
    name: Option<Field<'_>>,
) {
    out.text("uid", id);
    let is_host = hostname.is_some_and(|hostname| context.version.takes_hostname(hostname));
    if is_host {
        out.text("hostname", hostname);
    }
    match (name, hostname.filter(|_| !is_host)) {
        (Some(name), _) => out.text("name", Some(name)),
        (None, Some(hostname)) => out.text("name", Some(hostname)),
        (None, None) if id.is_none() && !is_host => {
            out.word("name", UNKNOWN, "where the row names no device")
        }
        (None, None) => {}
    }
}

/// The mode in which the agent guards the device.
fn policies(out: &mut impl Out, context: &Context<'_>, device: &Device<'_>) {
    if device.mode.is_some() {
        out.open_list("policies");
        out.open("");
        out.text("name", device.mode);
        if context.version >= Version::V1_5 {
            objects::facts(out, context, "data", &device.mode_facts);
        }
        out.close();
        out.close_list();
    }
}

/// One network interface for each of the device's own addresses; nothing where one of them is none.
fn local_addresses(out: &mut impl Out, addresses: Option<Field<'_>>) {
    let Some(field) = addresses else { return };
    let Ok(addresses) = serde_json::from_str::<Vec<&str>>(field.raw()) else { return };
    if !addresses.iter().all(|address| is_address(address)) {
        return;
    }
    out.open_list("network_interfaces");
    for address in addresses {
        out.open("");
        out.put("ip", Value::Text(address), From::field_if(field, "each address, if all are addresses"));
        out.fixed("type_id", 0, "no row tells the kind of interface");
        out.close();
    }
    out.close_list();
}

pub(super) fn write_change(out: &mut impl Out, context: &Context<'_>, change: &DeviceChange<'_>) {
    let (class, activity, activity_name) = match change.what {
        Difference::Added => (Class::Entity, 1, "Create"),
        Difference::Removed => (Class::Entity, 4, "Delete"),
        Difference::Mode { .. } | Difference::Switch { .. } | Difference::Setting { .. } => {
            (Class::ConfigState, 1, "Log")
        }
    };
    let mapping = Mapping { class, activity, activity_name };
    common::write_front(out, context, &front(mapping, change.what.severity(), change.organization));
    match change.what {
        Difference::Added | Difference::Removed => {
            out.open("entity");
            out.fixed("type_id", 1, "a computer");
            out.word("type", "Device", "a computer");
            out.text("name", change.name.or(change.hostname));
            out.text("uid", change.id);
            device(out, context, change);
            out.close();
        }
        Difference::Mode { before, after } => {
            device(out, context, change);
            out.word("message", "mode", "what became different");
            security_level(out, ["prev_security_level_id", "prev_security_level"], before);
            security_level(out, ["security_level_id", "security_level"], after);
            before_and_after(out, &[Compared { name: "mode", before, after }]);
        }
        Difference::Switch { what, before, after } => {
            device(out, context, change);
            out.word("message", what.as_str(), "what became different");
            // The vendor's flag says that tamper protection is off.
            let on = after.value != (what == Switch::TamperProtection);
            let (id, caption) = if on { (2, "Enabled") } else { (1, "Disabled") };
            let from = From::derived(after.field.slot(), "whether it is on now");
            out.put("state_id", Value::Integer(id), from);
            out.put("state", Value::Escaped(caption), from);
            let name = context.name_of(after.field);
            let before = before.map(|before| before.field);
            before_and_after(out, &[Compared { name, before, after: Some(after.field) }]);
        }
        Difference::Setting { what, members } => {
            device(out, context, change);
            out.word("message", what.as_str(), "what became different");
            before_and_after(out, &members);
        }
    }
    objects::enrichments(out, context);
}

fn device(out: &mut impl Out, context: &Context<'_>, change: &DeviceChange<'_>) {
    out.open("device");
    identity(out, context, change.id, change.hostname, change.name);
    objects::unknown_type(out);
    out.text("ip", change.address);
    managed(out, change.is_managed);
    objects::known_device(out, context);
    out.close();
}

/// "Secure" is the schema's word, too; of other modes the schema has only "other".
fn security_level(out: &mut impl Out, [id_key, key]: [&str; 2], mode: Option<Field<'_>>) {
    let Some(mode) = mode else { return };
    let id = if mode.inner().eq_ignore_ascii_case("secure") { 1 } else { 99 };
    out.put(id_key, Value::Integer(id), From::derived(mode.slot(), "1 where the mode is Secure, else 99"));
    out.text(key, Some(mode));
}

/// Members by name, as they were and as they are.
fn before_and_after(out: &mut impl Out, members: &[Compared<'_>]) {
    out.open("unmapped");
    for (key, is_after) in [("before", false), ("after", true)] {
        out.open(key);
        for member in members {
            if let Some(value) = if is_after { member.after } else { member.before } {
                out.put(member.name, Value::Json(value.raw()), From::fixed("as it was and is in the row"));
            }
        }
        out.close();
    }
    out.close();
}
