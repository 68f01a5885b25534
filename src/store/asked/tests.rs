use super::*;
use crate::clock::Clock;
use crate::model::OrganizationId;
use crate::store::snapshots::{Known, Presence};
use crate::store::streams::StreamKey;
use crate::store::{Store, connections, snapshots, streams};

fn list(db: &Connection, connection: ConnectionId, computer: &str, row: &str, now: Micros) {
    let key = StreamKey { connection, source: "computers", scope: "tree", fingerprint: "" };
    let set = streams::open(db, &key).unwrap().set;
    let organization =
        connections::organization(db, connection, &OrganizationId::new("a"), None, now).unwrap();
    let known = Known {
        fingerprint: row.as_bytes().to_vec(),
        row: row.as_bytes().to_vec(),
        presence: Presence::Present,
        restated: 0,
    };
    snapshots::set(db, set, organization, computer, &known, now).unwrap();
}

fn signs(row: &str) -> Signs {
    Signs { print: crate::normalise::digest(&[row.as_bytes()]), quiet: row == "quiet" }
}

#[tokio::test]
async fn a_computer_whose_signs_change_while_it_is_asked_about_stays_due() {
    let store = Store::open_in_memory(Clock::shifted(chrono::Duration::zero(), 1)).unwrap();
    store
        .write(|db| {
            let connection = connections::register(db, "acme")?.id;
            let asker = Asker { connection, set: 77, organization: None };
            list(db, connection, "c", "isolated", 10);
            assert!(look(db, &asker, signs)?);
            let chosen = next(db, &asker, None, 10)?;
            assert_eq!(chosen.len(), 1);
            list(db, connection, "c", "locked", 20);
            assert!(look(db, &asker, signs)?);
            done(db, 77, &chosen[0], 30)?;
            let chosen = next(db, &asker, None, 10)?;
            assert_eq!(chosen.len(), 1, "what it was asked about was before the change");
            done(db, 77, &chosen[0], 40)?;
            assert_eq!(next(db, &asker, None, 10)?, []);
            assert_eq!(tally(db, &asker)?, Tally { computers: 1, due: 0, never: 0 });
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_row_that_changed_without_its_signs_is_not_due_and_others_sites_computers_are_none() {
    let store = Store::open_in_memory(Clock::shifted(chrono::Duration::zero(), 1)).unwrap();
    store
        .write(|db| {
            let connection = connections::register(db, "acme")?.id;
            let other = connections::register(db, "other")?.id;
            let asker = Asker { connection, set: 77, organization: None };
            list(db, other, "d", "isolated", 10);
            list(db, connection, "c", "quiet", 10);
            assert!(look(db, &asker, signs)?);
            assert_eq!(tally(db, &asker)?, Tally { computers: 1, due: 0, never: 1 });
            list(db, connection, "c", "quiet", 20);
            assert!(look(db, &asker, signs)?);
            assert_eq!(next(db, &asker, None, 10)?, []);
            assert_eq!(next(db, &asker, Some(1), 10)?.len(), 1, "its turn comes with the sweep");
            Ok(())
        })
        .await
        .unwrap();
}

#[test]
fn a_stream_of_one_organization_searches_its_computers_alone() {
    let db = crate::store::tests::memory();
    let plan = |sql: String| -> Vec<String> {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let most = plan.parameter_count();
        let rows = plan.query_map(rusqlite::params_from_iter((0..most).map(|_| 1)), |row| row.get(3));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    };
    let asker = Asker { connection: 1, set: 77, organization: Some(1) };
    for sql in [asker.changed(), asker.next(), asker.tally(), asker.forget_removed()] {
        let steps = plan(sql);
        let of_rows = |step: &&String| {
            let words: Vec<&str> = step.split(' ').collect();
            ["SCAN", "SEARCH"].contains(&words[0]) && ["s", "a", "asked"].contains(&words[1])
        };
        assert!(steps.iter().any(|step| of_rows(&step)), "{steps:#?}");
        assert!(steps.iter().filter(of_rows).all(|step| step.contains("organization=?")), "{steps:#?}");
    }
}
