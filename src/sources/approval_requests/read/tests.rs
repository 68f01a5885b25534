use serde_json::{Value, json};

use super::*;
use crate::record::row::tidy;

/// What an entry tells: each step with its seconds to the decision and its reason, and the time.
type Told = (Step, Option<i64>, Option<String>, Option<Micros>);

fn told(change: Change, row: &Value, previous: Option<&Value>) -> Vec<Told> {
    static KNOWN: Names = NAMES;
    let (row, previous) = (row.to_string(), previous.map(Value::to_string));
    let (row, previous) = (tidy(&row), previous.as_deref().map(tidy));
    let entry = Entry {
        number: 1,
        uid: Uuid::from_u128(7),
        kind: Kind::Event,
        change,
        organization: "o",
        vendor_id: None,
        time: Some(77),
        row: &row,
        previous: previous.as_deref(),
    };
    let read = Row::read(&KNOWN, &row, usize::MAX).unwrap();
    let before = previous.as_deref().map(|row| Row::read(&KNOWN, row, usize::MAX).unwrap());
    let mut told = Vec::new();
    super::read(&entry, &read, before.as_ref(), &mut |record| {
        let About::Approval(request) = &record.about else { panic!("no request") };
        let reason = request.reason.as_ref();
        let reason = reason.map(|reason| match &reason.decoded {
            Some(text) => text.clone().into_owned(),
            None => reason.field.text().into_owned(),
        });
        told.push((request.step, request.took.map(|took| took.seconds()), reason, record.time));
    });
    told
}

fn steps_of(change: Change, row: &Value, previous: Option<&Value>) -> Vec<Step> {
    told(change, row, previous).into_iter().map(|(step, ..)| step).collect()
}

fn fixture() -> Vec<Value> {
    let text = include_str!("../../../../tests/it/fixtures/portal/approval_requests.json");
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_rows_of_the_vendor_give_their_steps_with_reason_and_time_to_decision() {
    let all: Vec<Vec<Told>> = fixture().iter().map(|row| told(Change::New, row, None)).collect();
    let steps: Vec<Vec<Step>> =
        all.iter().map(|told| told.iter().map(|(step, ..)| *step).collect()).collect();
    use Step::{Approved, Opened, Rejected, SelfApproved};
    assert_eq!(
        steps,
        [
            vec![Opened],
            vec![Approved, Opened],
            vec![Rejected, Opened],
            vec![Approved, Opened],
            vec![SelfApproved, Opened]
        ]
    );
    let reasons: Vec<Option<&str>> = all.iter().map(|told| told[0].2.as_deref()).collect();
    let text = "Bitte freigeben – brauche ich für die Präsentation 🙏";
    let wanted = [Some(text), Some(text), Some("please, it is urgent!"), Some("//4AYmFk"), None];
    assert_eq!(reasons, wanted, "base64 only where it holds text");
    let seconds: Vec<Option<i64>> = all.iter().map(|told| told[0].1).collect();
    assert_eq!(seconds, [None, Some(1_066), Some(57_599), None, None]);
    assert_eq!(all[1][1].1, None, "an opening decides nothing");
    // The decision at 10:30:00, the opening at 10:12:13.435815.
    assert_eq!((all[1][0].3, all[1][1].3), (Some(1_772_361_000_000_000), Some(1_772_359_933_435_815)));
}

#[test]
fn a_change_gives_the_step_from_one_state_to_the_other() {
    let row = |status: u8| json!({ "approvalRequestId": "r", "statusId": status });
    let step = |before: u8, now: u8| steps_of(Change::Changed, &row(now), Some(&row(before)));
    for (before, now, wanted) in [
        (1, 4, Step::Approved),
        (1, 12, Step::Approved),
        (1, 10, Step::Rejected),
        (1, 6, Step::NotLearned),
        (1, 16, Step::SelfApproved),
        (1, 13, Step::Escalated),
        (1, 17, Step::Escalated),
        (17, 4, Step::Approved),
        (13, 1, Step::Returned),
        (4, 1, Step::Reopened),
        (10, 4, Step::Approved),
        (4, 12, Step::Updated),
        (1, 2, Step::Other),
        (2, 4, Step::Approved),
    ] {
        assert_eq!(step(before, now), [wanted], "{before} to {now}");
    }
    assert_eq!(steps_of(Change::Removed, &row(4), Some(&row(4))), [Step::Removed]);
    assert_eq!(steps_of(Change::New, &row(3), None), [Step::Other, Step::Opened]);
    let escalated = json!({ "statusId": 1, "isEscalatedByCustomer": true });
    assert_eq!(steps_of(Change::New, &escalated, None), [Step::Escalated, Step::Opened]);
}

#[test]
fn who_is_to_decide_is_a_step_of_its_own() {
    let row = |status: u8, who: &str| json!({ "statusId": status, "assigneeUserId": who });
    let steps = |before: &Value, now: &Value| steps_of(Change::Changed, now, Some(before));
    let none = uuid::Uuid::nil().to_string();
    assert_eq!(steps(&row(1, &none), &row(1, "a")), [Step::Assigned]);
    assert_eq!(steps(&row(1, "a"), &row(1, "b")), [Step::Assigned]);
    assert_eq!(steps(&row(1, "a"), &row(1, "")), [Step::Updated]);
    assert_eq!(steps(&row(1, ""), &row(4, "a")), [Step::Approved, Step::Assigned]);
    assert_eq!(steps(&row(4, "a"), &row(4, "A")), [Step::Updated]);
    assert_eq!(steps_of(Change::New, &row(1, "a"), None), [Step::Opened, Step::Assigned]);
}

#[test]
fn a_step_without_a_time_of_its_own_has_that_of_the_timer_and_else_when_it_was_noticed() {
    let timer = json!({ "assignedDate": "2026-03-01T10:20:00Z", "escalatedDate": "0001-01-01T00:00:00" });
    let before = json!({ "statusId": 1, "approvalRequestTimerDto": timer });
    let row = json!({ "statusId": 1, "assigneeUserId": "a", "approvalRequestTimerDto": timer });
    assert_eq!(told(Change::Changed, &row, Some(&before))[0].3, Some(1_772_360_400_000_000));
    let row = json!({ "statusId": 13, "approvalRequestTimerDto": timer });
    assert_eq!(told(Change::Changed, &row, Some(&before))[0].3, Some(77));
    assert_eq!(told(Change::New, &row, None)[0].3, None);
}

#[test]
fn a_decision_before_its_request_took_no_time() {
    let row =
        json!({ "statusId": 4, "dateTime": "2026-03-01T10:00:00Z", "actionDate": "2026-03-01T09:00:00Z" });
    assert_eq!(told(Change::New, &row, None)[0].1, None);
}

#[test]
fn the_blocked_action_is_read_in_both_casings() {
    static KNOWN: Names = NAMES;
    for dto in
        [r#"{"fullPath":"x","osType":1,"domainName":"d"}"#, r#"{"fullpath":"x","ostype":1,"DomainName":"d"}"#]
    {
        let text = format!(r#"{{"statusId":1,"threatLockerActionDto":{dto}}}"#);
        let row = Row::read(&KNOWN, &text, usize::MAX).unwrap();
        let request = approval(&row, Step::Opened);
        assert_eq!(request.path.map(Field::inner), Some("x"));
        assert!(request.host.platform.is_some() && row.rest().is_empty() && request.facts.len() == 2);
    }
}
