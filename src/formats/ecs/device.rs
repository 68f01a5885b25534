//! Devices as they are, and what became different on them.

use super::front::{self, Front, Name};
use super::objects::{self, Host, User, again};
use super::{Context, class, rest};
use crate::formats::out::{From, Out, Value};
use crate::model::Change;
use crate::record::device::{Compared, Device, DeviceChange, Difference, Setting, Switch};
use crate::record::event::Severity;
use crate::record::row::Slots;

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, device: &Device<'_>) {
    let action = match device.change {
        _ if device.checkin.is_some() => "device-checkin",
        Change::New if context.known.replaces.is_none() => "device-added",
        Change::New | Change::Changed => "device-changed",
        Change::Removed => "device-removed",
        Change::Restated => "device-restated",
    };
    let kind = if device.checkin.is_some() { "event" } else { "asset" };
    let time = device.checkin.as_ref().and_then(|checkin| checkin.time);
    let front = Front { time, ..front(kind, class::DEVICE, action, Severity::Informational) };
    front::write(out, context, &front);
    objects::organization(out, context, device.organization, device.organization_name);
    let host = Host {
        id: device.id,
        asked: device.checkin.as_ref().and_then(|checkin| checkin.computer_id),
        hostname: device.hostname,
        name: device.name,
        platform: device.platform,
        os: device.os,
        addresses: device.local_addresses,
        address: device.address.filter(|_| !device.is_managed),
    };
    objects::host(out, context, &host);
    out.open("source");
    // Where an agent speaks from; a device without one speaks to nobody.
    out.text("ip", device.address.filter(|_| device.is_managed));
    out.close();
    if device.agent_version.is_some() {
        out.open("agent");
        out.word("type", "threatlocker", "of the product");
        out.text("version", device.agent_version);
        out.close();
    }
    let known = context.known.user.filter(|_| device.user.is_none());
    match known {
        Some(user) => {
            out.open("user");
            objects::user_name(out, user.name, From::fixed("the last logged-in user, where known"));
            out.close();
        }
        None => objects::user(out, &User { name: device.user, ..User::default() }),
    }
    write_related(out, context, device);

    out.open("threatlocker");
    out.open("device");
    match device.group {
        Some(group) => out.text("group", Some(group)),
        None => rest::known_group(out, context),
    }
    rest::known_mode(out, context);
    managed(out, device.is_managed);
    objects::seen(out, "last_seen", device.last_seen);
    objects::seen(out, "first_seen", device.first_seen);
    out.close();
    if known.is_some() || rest::is_last_user(context, device.user) {
        out.open("last_user");
        rest::user_origin(out, context);
        out.close();
    } else {
        rest::last_user(out, context, device.user);
    }
    if let Some(replaced) = context.known.replaces {
        const RULE: From =
            From::fixed("the device of a report that goes on as this one, and its last record");
        out.open("replaces");
        out.put("id", Value::Text(replaced.id), RULE);
        out.put("uid", Value::Escaped(replaced.uid.hyphenated().encode_lower(&mut [0; 36])), RULE);
        out.close();
    }
    rest::remainder(out, context);
    out.close();
}

/// That a device has no agent; that it has one, its agent tells.
fn managed(out: &mut impl Out, is_managed: bool) {
    if !is_managed {
        out.put("is_managed", Value::Boolean(false), From::fixed("it has no agent"));
    }
}

fn front<'a>(kind: &'static str, class: class::Class, action: &'static str, severity: Severity) -> Front<'a> {
    Front {
        kind,
        class,
        from: Slots::NONE,
        action: Name::Ours(action),
        outcome: None,
        severity,
        severity_from: Slots::NONE,
        time: None,
        received: None,
        observer: "portal",
    }
}

fn write_related(out: &mut impl Out, context: &Context<'_>, device: &Device<'_>) {
    let [short, whole] = objects::related_user(device.user);
    let [known_short, known_whole] = objects::known_user(context, device.user);
    out.open("related");
    objects::related(out, "user", &[short, whole, known_short, known_whole]);
    let known = context.known.device.and_then(|known| known.name).filter(|_| device.checkin.is_some());
    objects::related(out, "hosts", &[again(device.hostname), again(device.name), objects::known(known)]);
    out.open_list("ip");
    if let Some((value, from)) = again(device.address) {
        out.put("", value, from);
    }
    for (field, address) in objects::addresses(device.local_addresses)
        .into_iter()
        .flat_map(|(field, addresses)| addresses.into_iter().map(move |address| (field, address)))
    {
        out.put("", Value::Text(address), From::derived(field.slot(), "also stands elsewhere"));
    }
    out.close_list();
    out.close();
}

pub(super) fn write_change(out: &mut impl Out, context: &Context<'_>, change: &DeviceChange<'_>) {
    let (class, action) = (class::of_change(&change.what), action(&change.what));
    let front = front("event", class, action, change.what.severity());
    front::write(out, context, &front);
    objects::organization(out, context, change.organization, None);
    let host = Host {
        id: change.id,
        hostname: change.hostname,
        name: change.name,
        address: change.address,
        ..Host::default()
    };
    objects::host(out, context, &host);
    let known = objects::known(context.known.device.and_then(|device| device.name));
    out.open("related");
    objects::related(out, "user", &objects::known_user(context, None));
    objects::related(out, "hosts", &[again(change.hostname), again(change.name), known]);
    objects::related(out, "ip", &[again(change.address)]);
    out.close();

    out.open("threatlocker");
    out.open("device");
    rest::known_group(out, context);
    rest::known_mode(out, context);
    managed(out, change.is_managed);
    out.close();
    rest::last_user(out, context, None);
    match change.what {
        Difference::Added | Difference::Removed => {}
        Difference::Mode { before, after } => {
            before_and_after(out, &[Compared { name: "mode", before, after }]);
        }
        Difference::Switch { before, after, .. } => {
            let name = context.name_of(after.field);
            let before = before.map(|before| before.field);
            before_and_after(out, &[Compared { name, before, after: Some(after.field) }]);
        }
        Difference::Setting { members, .. } => before_and_after(out, &members),
    }
    out.close();
}

/// What became different. The vendor's flag says that tamper protection is off.
fn action(what: &Difference<'_>) -> &'static str {
    match what {
        Difference::Added => "device-added",
        Difference::Removed => "device-removed",
        Difference::Mode { .. } => "mode-changed",
        Difference::Setting { what: Setting::Proxy, .. } => "proxy-changed",
        Difference::Setting { what: Setting::Options, .. } => "options-changed",
        Difference::Switch { what, after, .. } => match (what, after.value) {
            (Switch::Isolation, true) => "isolation-on",
            (Switch::Isolation, false) => "isolation-off",
            (Switch::Lockdown, true) => "lockdown-on",
            (Switch::Lockdown, false) => "lockdown-off",
            (Switch::Learning, true) => "learning-on",
            (Switch::Learning, false) => "learning-off",
            (Switch::TamperProtection, false) => "tamper-protection-on",
            (Switch::TamperProtection, true) => "tamper-protection-off",
        },
    }
}

/// Members by name, as they were and as they are.
fn before_and_after(out: &mut impl Out, members: &[Compared<'_>]) {
    for (key, is_after) in [("before", false), ("after", true)] {
        out.open(key);
        for member in members {
            if let Some(value) = if is_after { member.after } else { member.before } {
                out.put(member.name, Value::Json(value.raw()), From::fixed("as it was and is in the row"));
            }
        }
        out.close();
    }
}
