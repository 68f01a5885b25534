//! Maintenances of devices.

use super::class;
use super::front::{self, Front, Name};
use super::objects::{self, User};
use super::{Context, rest};
use crate::formats::out::{From, Out, Value};
use crate::record::remediation::{Measure, Moment, Remediation};
use crate::record::row::Slots;

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, remediation: &Remediation<'_>) {
    let from = remediation.code.map_or(Slots::NONE, |code| code.field.slot().into());
    let time = match remediation.moment {
        Moment::Begun => remediation.start,
        Moment::Ended => remediation.end,
        Moment::Altered => None,
    };
    let front = Front {
        kind: "event",
        class: class::of_maintenance(remediation.moment),
        from: Slots::NONE,
        action: Name::Ours(action(remediation.measure, remediation.moment)),
        outcome: None,
        severity: remediation.severity(),
        severity_from: from,
        time: time.filter(|time| context.record.time == Some(time.at)).map(|time| time.field),
        received: None,
        observer: "portal",
    };
    front::write(out, context, &front);
    out.open("organization");
    out.put("id", Value::Text(remediation.organization), From::fixed("the computer's organization"));
    if let Some(name) = context.known.device.and_then(|device| device.organization) {
        out.put("name", Value::Text(name), From::fixed("the device's organization, where known"));
    }
    out.close();
    let known = context.known.device.unwrap_or_default();
    out.open("host");
    match (remediation.computer, remediation.computer_id) {
        (Some(id), _) => out.text("id", Some(id)),
        (None, Some(id)) => {
            let rule = "the computer that was asked about, where the row names none";
            out.put("id", Value::Text(id), From::fixed(rule));
        }
        (None, None) => {}
    }
    if let Some(name) = known.name {
        let rule = "the device's name as listed before it was collected, where known";
        out.put("name", Value::Text(name), From::fixed(rule));
    }
    if let Some(os) = known.os {
        out.open("os");
        let rule = "the device's system as listed before it was collected, where known";
        out.put("full", Value::Text(os), From::fixed(rule));
        out.close();
    }
    out.close();
    objects::user(out, &User { name: remediation.by(), ..User::default() });
    out.open("related");
    let [short, whole] = objects::related_user(remediation.by());
    let [known_short, known_whole] = objects::known_user(context, remediation.by());
    objects::related(out, "user", &[short, whole, known_short, known_whole]);
    objects::related(out, "hosts", &[objects::known(known.name)]);
    out.close();

    out.open("threatlocker");
    out.open("device");
    rest::known_group(out, context);
    rest::known_mode(out, context);
    out.close();
    rest::last_user(out, context, remediation.by());
    out.open("maintenance");
    out.put("id", Value::Text(remediation.key), From::fixed("of the computer and its maintenance"));
    objects::seen(out, "start", remediation.start);
    objects::seen(out, "end", remediation.end);
    out.close();
    rest::remainder(out, context);
    out.close();
}

/// What was done.
fn action(measure: Measure, moment: Moment) -> &'static str {
    match moment {
        Moment::Begun => measure.as_str(),
        Moment::Altered => "maintenance-changed",
        Moment::Ended => match measure {
            Measure::Isolation => "isolation-ended",
            Measure::Lockdown => "lockdown-ended",
            _ => "maintenance-ended",
        },
    }
}
