//! What a row of the system audit says (contract section 4.1).

use crate::model::Entry;
use crate::record::event::{
    Action, Actor, Application, Edit, Event, Host, Outcome, Policy, Severity, Subject, Verdict,
};
use crate::record::path::is_email;
use crate::record::row::{Field, Names, Row, Slots};
use crate::record::{Record, Repeats};

/// Every member of contract section 4.1, in the order of the portal; `details` is an object, text or null.
pub(super) const NAMES: Names = Names::new(&[
    "systemAuditId",
    "organizationId",
    "organizationName",
    "userId",
    "username",
    "emailAddress",
    "action",
    "effectiveAction",
    "ipAddress",
    "details",
    "details.page",
    "details.function",
    "details.objectId",
    "details.details",
    "masterViewOnly",
    "dateTime",
    "systemAuditObjectTypeId",
    "ticketNumber",
    "notes",
]);

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

pub(super) fn read<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    _previous: Option<&'a Row<'a>>,
    emit: &mut dyn FnMut(Record<'a>),
) {
    let action_name = row.text(slot!("action"));
    let effect_name = row.text(slot!("effectiveAction"));
    let page = row.text(slot!("details.page"));
    let function = row.text(slot!("details.function"));
    let details = row.text(slot!("details.details")).or(row.text(slot!("details")));
    let permitted = permitted(effect_name);
    let action = action(action_name, [page, function]);
    // Who only looks at what guards an agent does nothing to it.
    let about = [function, details].map(|text| text.filter(|_| action != Action::Api(Edit::Read)));
    let (severity, severity_from) = severity(permitted, effect_name, about);
    let (username, email) = (row.text(slot!("username")), row.text(slot!("emailAddress")));
    let user = username.or(email);
    let event = Event {
        action,
        action_name,
        id: row.id(slot!("systemAuditId")),
        time: row.text(slot!("dateTime")),
        received: None,
        organization: row.id(slot!("organizationId")),
        organization_name: row.text(slot!("organizationName")),
        outcome: Outcome {
            verdict: Verdict::Other,
            permitted,
            from: slot!("effectiveAction").into(),
            code: None,
            verdict_name: None,
            effect_name,
        },
        severity,
        severity_from,
        host: Host::default(),
        actor: Actor {
            user,
            user_id: row.id(slot!("userId")),
            email: email.filter(|email| is_email(email.inner())),
            address: row.address(slot!("ipAddress")),
            ..Actor::default()
        },
        subject: Subject {
            object_id: row.id(slot!("details.objectId")),
            object_type: row.text(slot!("systemAuditObjectTypeId")),
            page,
            function,
            details,
            notes: row.text(slot!("notes")),
            ..Subject::default()
        },
        policy: Policy::default(),
        application: Application::default(),
    };
    let repeats = Repeats::of([(email, user), (None, None), (None, None), (None, None)]);
    emit(Record::event(entry, row, event, repeats));
}

/// By the word for the action and, for changes, by what the page is about; where it does not say, the function.
fn action(name: Option<Field<'_>>, about: [Option<Field<'_>>; 2]) -> Action {
    let is = |word: &str| name.is_some_and(|name| name.inner().eq_ignore_ascii_case(word));
    let edit = match () {
        () if is("Logon") => return Action::Logon,
        () if is("Logoff") => return Action::Logoff,
        () if is("Read") => return Action::Api(Edit::Read),
        () if is("Create") => Edit::Create,
        () if is("Modify") => Edit::Update,
        () if is("Delete") => Edit::Delete,
        () => return Action::Api(Edit::Other),
    };
    match about
        .iter()
        .flatten()
        .find_map(|field| first_of(*field, &["polic", "administrator", "role", "user"]))
    {
        Some("polic") => Action::Policy(edit),
        Some(_) => Action::Account(edit),
        None => Action::Api(edit),
    }
}

/// Which of these words stands first in a text, in any casing: what comes later is told of it.
fn first_of(field: Field<'_>, words: &[&'static str]) -> Option<&'static str> {
    let text = field.inner().to_ascii_lowercase();
    let found = words.iter().filter_map(|word| Some((text.find(word)?, *word)));
    found.min().map(|(_, word)| word)
}

/// Whether a text holds one of these words, in any casing.
fn mentions(field: Field<'_>, words: &[&str]) -> bool {
    let text = field.inner().to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

fn permitted(effect: Option<Field<'_>>) -> Option<bool> {
    match effect?.inner() {
        word if word.eq_ignore_ascii_case("Permitted") => Some(true),
        word if word.eq_ignore_ascii_case("Denied") => Some(false),
        _ => None,
    }
}

fn severity(
    permitted: Option<bool>,
    effect: Option<Field<'_>>,
    about: [Option<Field<'_>>; 2],
) -> (Severity, Slots) {
    let tamper = about.into_iter().flatten().find(|field| mentions(*field, &["tamper"]));
    let slots = |field: Option<Field<'_>>| field.map_or_else(Slots::default, |field| field.slot().into());
    match (tamper, permitted) {
        (Some(_), _) => (Severity::High, slots(tamper) | slots(effect)),
        (None, Some(false)) => (Severity::Medium, slots(effect)),
        (None, _) => (Severity::Informational, slots(effect)),
    }
}
