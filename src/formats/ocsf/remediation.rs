//! Maintenances of devices: Remediation Activity, which has them in every version.

use super::Context;
use super::class::{Class, Mapping, Profiles};
use super::common::{self, Front, UNKNOWN};
use super::objects::{self, User};
use crate::formats::out::{From, Out, Value};
use crate::record::device::Time;
use crate::record::remediation::{Measure, Moment, Remediation};
use crate::record::row::Slots;

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, remediation: &Remediation<'_>) {
    let (moment, measure) = (remediation.moment, remediation.measure);
    let from = remediation.code.map_or(Slots::default(), |code| code.field.slot().into());
    let time = match moment {
        Moment::Begun => remediation.start,
        Moment::Ended => remediation.end,
        Moment::Altered => None,
    };
    let front = Front {
        mapping: mapping(moment, measure),
        profiles: Profiles::Host,
        activity_name: remediation.name,
        from,
        severity: remediation.severity(),
        severity_from: from,
        id: remediation.id,
        time: time.filter(|time| context.record.time == Some(time.at)).map(|time| time.field),
        organization: None,
        code: remediation.code.map(|code| code.field),
    };
    common::write_front(out, context, &front);
    out.word("command_uid", remediation.key, "of the computer and its maintenance");
    let verb = match moment {
        Moment::Begun => "began",
        Moment::Altered => "was changed",
        Moment::Ended => "ended",
    };
    let message = [measure.as_str(), " ", verb].concat();
    out.put("message", Value::Text(&message), From::derived(from, "what was begun, changed or ended"));
    moments(out, "start_time", remediation.start);
    moments(out, "end_time", remediation.end);
    out.open("remediation");
    out.text("desc", remediation.name);
    out.close();
    out.open("actor");
    match remediation.by() {
        Some(name) => objects::user(out, "user", User { name: Some(name), ..User::default() }),
        None => out.word("app_name", "ThreatLocker", "where the row names nobody"),
    }
    out.close();
    out.open("device");
    match (remediation.computer, remediation.computer_id) {
        (Some(id), _) => out.text("uid", Some(id)),
        (None, Some(id)) => {
            let rule = "the computer that was asked about, where the row names none";
            out.put("uid", Value::Text(id), From::fixed(rule));
        }
        (None, None) => {}
    }
    let name = context.known.device.and_then(|device| device.name);
    if name.or(remediation.computer_id).is_none() && remediation.computer.is_none() {
        out.word("name", UNKNOWN, "where nothing names the device");
    }
    if let Some(name) = name {
        let rule = "the device's name as listed before it was collected, where known";
        out.put("name", Value::Text(name), From::fixed(rule));
    }
    objects::unknown_type(out);
    objects::known_device(out, context);
    out.close();
    objects::enrichments(out, context);
    common::write_rest(out, context);
}

fn moments(out: &mut impl Out, key: &str, time: Option<Time<'_>>) {
    if let Some(time) = time {
        let milliseconds = Value::Integer(time.at.div_euclid(1_000));
        out.put(key, milliseconds, From::derived(time.field.slot(), "in milliseconds since 1970"));
    }
}

/// To cut a device off, or to let nothing run on it, isolates it; the end of anything restores what was.
fn mapping(moment: Moment, measure: Measure) -> Mapping {
    let (activity, activity_name) = match moment {
        Moment::Begun if measure.is_remedy() => (1, "Isolate"),
        Moment::Ended => (3, "Restore"),
        Moment::Begun | Moment::Altered => (99, "Other"),
    };
    Mapping { class: Class::Remediation, activity, activity_name }
}
