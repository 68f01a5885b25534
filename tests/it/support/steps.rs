//! Compares what was told of requests for approval and of maintenances with what the portal has: steps, of which each
//! is told once and none out of its turn.

use std::collections::{BTreeMap, HashSet};

use lockstep::model::Micros;
use lockstep::normalise::parse_time;
use lockstep::simulator::Simulator;
use lockstep::simulator::truth::TruthRequest;
use serde_json::Value;

use super::app::DAY;
use super::output::{Output, Record};

/// The records of a source in the order of their making, each uid once.
fn records<'o>(output: &'o Output, source: &str) -> Vec<&'o Record> {
    assert!(output.broken.is_empty(), "{:?}", output.broken);
    let mut records: Vec<_> = output.records.iter().filter(|record| record.source == source).collect();
    records.sort_by_key(|record| record.number);
    let mut uids = HashSet::new();
    for record in &records {
        assert!(uids.insert(&record.uid), "twice: {record:?}");
    }
    records
}

/// What of a request makes a step: status, time of the decision, who made it, who is to.
type Stand = (u64, Option<Micros>, String, Option<String>);

fn stand(truth: &TruthRequest) -> Stand {
    (truth.status_id.into(), truth.action_date, truth.approved_by.to_owned(), truth.assignee_user_id.clone())
}

/// Each request stands as it is told last, what is told of it came in that order, and what was decided long before the
/// start and never changed is not told. Answers how many steps were told, and of how many requests none.
pub(crate) fn requests(output: &Output, portal: &Simulator, started: Micros) -> (usize, usize) {
    let mut told = BTreeMap::<String, Vec<_>>::new();
    for record in records(output, "approval_requests") {
        let row: Value = serde_json::from_str(record.row.as_ref().unwrap().get()).unwrap();
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let stand: Stand = (
            row["statusId"].as_u64().unwrap(),
            text("actionDate").and_then(|at| parse_time(&at)),
            text("approvedBy").unwrap_or_default(),
            text("assigneeUserId"),
        );
        told.entry(text("approvalRequestId").unwrap()).or_default().push((record.change.clone(), stand));
    }
    let mut truth: BTreeMap<String, Vec<TruthRequest>> = BTreeMap::new();
    for state in portal.true_requests(true) {
        truth.entry(state.approval_request_id.clone()).or_default().push(state);
    }
    assert!(told.keys().all(|id| truth.contains_key(id)));
    let (mut steps, mut silent) = (0, 0);
    for (id, states) in &truth {
        let last = states.last().unwrap();
        let Some(told) = told.get(id) else {
            let past = last.action_date.is_some_and(|at| at < started - 30 * DAY) && last.since < started;
            assert!(past, "nothing was told of {last:?}");
            silent += 1;
            continue;
        };
        steps += told.len();
        assert_eq!(told.last().unwrap().1, stand(last), "{last:?}");
        let mut states = states.iter();
        for (_, one) in told {
            assert!(
                states.any(|state| stand(state) == *one),
                "{id} was never {one:?} after what was told before"
            );
        }
        assert!(told[1..].iter().all(|(change, _)| change == "changed") && told[0].0 != "removed");
    }
    (steps, silent)
}

/// Each maintenance that was under way or ended since then is told to have ended if it has, none is
/// told to have begun or to have ended twice, and nearly all to have begun: not those that were over between two looks.
/// Answers how many were told and how many are owed.
pub(crate) fn maintenances(output: &Output, portal: &Simulator, since: Micros) -> (usize, usize) {
    let mut told: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for record in records(output, "remediations") {
        let entry = told.entry(record.vendor_id.clone().unwrap()).or_default();
        match record.change.as_str() {
            "new" => entry.0 += 1,
            "changed" => entry.1 += 1,
            other => panic!("{other}: {record:?}"),
        }
    }
    let ended = true_maintenances(portal, since);
    for (key, ended) in &ended {
        let seen = told.get(key).copied().unwrap_or_default();
        assert_eq!((seen.1, seen.0 <= 1), (u32::from(*ended), true), "{key}");
    }
    assert!(told.values().all(|(begun, ended)| *begun <= 1 && *ended <= 1));
    let begun = ended.keys().filter(|key| told.get(*key).is_some_and(|told| told.0 == 1)).count();
    assert!(begun * 10 >= ended.len() * 9, "{begun} of {}", ended.len());
    (told.len(), ended.len())
}

/// Of computers that are there, by computer and maintenance, whether it has ended; what ended before `since` is left out.
fn true_maintenances(portal: &Simulator, since: Micros) -> BTreeMap<String, bool> {
    let now = portal.now();
    let stage = portal.stage();
    let seed = stage.world.options.seed;
    let living = stage.world.fleet.computers.iter().filter(|one| one.state(now).is_some_and(|s| !s.removed));
    let all = living.flat_map(|one| one.maintenances(seed, now));
    let owed = all.filter(|one| one.end.is_none_or(|end| end >= since));
    owed.map(|one| {
        let name = one.id.map_or_else(|| one.type_id.to_string(), |id| id.to_string());
        (format!("{}/{name}@{}", one.computer_id, one.start), one.end.is_some())
    })
    .collect()
}
