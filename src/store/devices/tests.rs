use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::OrganizationId;
use crate::store::WriterDb;
use crate::store::connections;
use crate::store::tests;

const MINUTE: Micros = 60 * SECOND;
const LATER: Micros = i64::MAX;

/// A state with the organization of all rows.
fn memory() -> WriterDb {
    let db = tests::memory();
    let acme = connections::register(&db, "acme").unwrap().id;
    assert_eq!(connections::organization(&db, acme, &OrganizationId::new("5d1"), None, 1).unwrap(), 1);
    db
}

fn told(computer: u8, at: Micros, user: &str, facts: Option<&Facts>) -> Told {
    let sighting = Sighting {
        computer: Computer::Id(format!("pc-{computer}")),
        user: Some(user.to_owned()).filter(|user| !user.is_empty()),
        facts: facts.cloned().map(Box::new),
    };
    Told { organization: 1, at, sighting: Arc::new(sighting) }
}

/// A page of audit rows; answers the user known with each: the name, where from and since when.
fn page(db: &WriterDb, rows: &[(u8, Micros, &str)]) -> Vec<Option<(String, UserOrigin, Micros)>> {
    let rows: Vec<_> =
        rows.iter().map(|(computer, at, user)| Some(told(*computer, *at, user, None))).collect();
    let looked = note_seen(db, &rows, 0).unwrap();
    let user =
        |place| looked.of(place).user.map(|user| (user.name.to_owned(), user.origin, user.time.unwrap()));
    (0..rows.len()).map(user).collect()
}

fn list(db: &WriterDb, computer: u8, checkin: Micros, user: &str) {
    note_listed(db, &told(computer, checkin, user, Some(&Facts::default())), UserOrigin::Computer, LATER)
        .unwrap();
}

/// Who was the user at a time, asked with a row that names none.
fn user_at(db: &WriterDb, computer: u8, at: Micros) -> Option<(String, UserOrigin, Micros)> {
    page(db, &[(computer, at, "")]).pop().unwrap()
}

fn seen(name: &str, since: Micros) -> Option<(String, UserOrigin, Micros)> {
    Some((name.to_owned(), UserOrigin::UnifiedAudit, since))
}

fn listed(name: &str, since: Micros) -> Option<(String, UserOrigin, Micros)> {
    Some((name.to_owned(), UserOrigin::Computer, since))
}

fn count(db: &Connection, table: &str) -> i64 {
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn a_row_has_the_user_of_its_own_time_from_its_own_page_or_an_earlier_one() {
    let db = memory();
    assert_eq!(
        page(&db, &[(1, 9, ""), (1, 10, "a"), (1, 12, "b"), (1, 11, ""), (2, 12, "")]),
        [None, seen("a", 10), seen("b", 12), seen("a", 10), None]
    );
    assert_eq!(
        page(&db, &[(1, 20, ""), (1, 11, ""), (1, 30, "b")]),
        [seen("b", 12), seen("a", 10), seen("b", 12)]
    );
    assert_eq!(page(&db, &[(1, 15, "a"), (1, 30, "")]), [seen("a", 15), seen("a", 15)], "a late row counts");
    assert_eq!(page(&db, &[(3, 10, "b"), (3, 10, "a")]), [seen("b", 10), seen("b", 10)], "at one moment");
    assert_eq!(user_at(&db, 3, 11), seen("b", 10), "and ever since");
}

#[test]
fn the_computers_word_comes_first_from_its_time_on_until_they_name_nobody() {
    let db = memory();
    page(&db, &[(1, 10, "a")]);
    list(&db, 1, 20, "b");
    assert_eq!(
        page(&db, &[(1, 19, ""), (1, 20, ""), (1, 25, "c")]),
        [seen("a", 10), listed("b", 20), listed("b", 20)]
    );
    page(&db, &[(1, 26, "d")]);
    assert_eq!(count(&db, "last_user"), 3, "while they name somebody nobody asks the audit");
    list(&db, 1, 30, "b");
    assert_eq!(user_at(&db, 1, 30), listed("b", 20));
    list(&db, 1, 40, "");
    list(&db, 2, 40, "");
    assert_eq!(
        page(&db, &[(1, 39, ""), (1, 41, ""), (1, 50, "d"), (1, 51, "")]),
        [listed("b", 20), seen("c", 25), seen("d", 50), seen("d", 50)],
        "then whoever was seen or named last"
    );
    let known = || look(&db, [(1, "pc-1"), (1, "pc-2"), (2, "pc-1")].into_iter()).unwrap();
    assert_eq!(known().of(0).user.unwrap().name, "d");
    list(&db, 1, 45, "e");
    let known = known();
    assert_eq!(known.of(0).user.unwrap().name, "e");
    assert_eq!((known.of(1).user, known.of(2)), (None, Enrichment::default()));
}

#[test]
fn that_the_computers_name_nobody_any_more_unmakes_nobody() {
    let db = memory();
    list(&db, 1, 20, "a");
    list(&db, 1, 20, "");
    assert_eq!([user_at(&db, 1, 20), user_at(&db, 1, 90)], [listed("a", 20), listed("a", 20)]);
    prune(&db, 90, 0, 10).unwrap();
    assert_eq!(look(&db, [(1, "pc-1")].into_iter()).unwrap().of(0).user.unwrap().name, "a");
    page(&db, &[(1, 80, "b")]);
    assert_eq!(user_at(&db, 1, 90), seen("b", 80));
}

#[test]
fn a_device_has_another_user_until_a_record_tells_that_one() {
    let db = memory();
    list(&db, 1, 20, "");
    let another = || has_another_user(&db, 1, "pc-1").unwrap();
    assert!(!another());
    page(&db, &[(1, 30, "a")]);
    assert!(another());
    note_told(&db, 1, "pc-1", Some("a")).unwrap();
    assert!(!another());
    list(&db, 1, 40, "b");
    assert!(another());
    assert!(!has_another_user(&db, 1, "pc-2").unwrap(), "nobody is known there");
}

#[test]
fn the_newest_listing_counts_also_where_its_check_in_is_older_or_in_the_future() {
    let db = memory();
    list(&db, 1, 20, "a");
    list(&db, 1, 10, "b");
    assert_eq!(user_at(&db, 1, 20), listed("b", 20));
    note_listed(&db, &told(1, 90, "c", Some(&Facts::default())), UserOrigin::Computer, 30).unwrap();
    assert_eq!(user_at(&db, 1, 30), listed("c", 30));
}

#[test]
fn a_device_is_as_it_was_last_listed_and_stays_known_once_it_is_removed() {
    let db = memory();
    let facts = |mode: &str| Facts { name: Some("PC".into()), mode: Some(mode.into()), ..Facts::default() };
    let device = || {
        let looked = note_seen(&db, &[None, Some(told(1, 50, "", None))], 60).unwrap();
        assert_eq!(looked.of(0), Enrichment::default());
        looked.of(1).device.map(|device| (device.name.unwrap().to_owned(), device.mode.unwrap().to_owned()))
    };
    assert_eq!(device(), None);
    for mode in ["Secure", "Learning", "Secure"] {
        note_listed(&db, &told(1, 10, "", Some(&facts(mode))), UserOrigin::Computer, 60).unwrap();
        assert_eq!(device(), Some(("PC".into(), mode.into())));
    }
    note_removed(&db, 1, "pc-1", 60).unwrap();
    assert_eq!(device(), Some(("PC".into(), "Secure".into())));
    prune(&db, 60, 0, 10).unwrap();
    assert_eq!(count(&db, "device"), 1);
    prune(&db, 61, 0, 10).unwrap();
    assert_eq!((device(), count(&db, "device")), (None, 0));
    note_listed(&db, &told(1, 10, "", Some(&facts("Secure"))), UserOrigin::Computer, 60).unwrap();
    note_removed(&db, 1, "pc-1", 60).unwrap();
    note_listed(&db, &told(1, 70, "", Some(&facts("Secure"))), UserOrigin::Computer, 70).unwrap();
    prune(&db, 99, 0, 10).unwrap();
    assert_eq!(count(&db, "device"), 1, "it is back");
}

#[test]
fn a_device_that_only_the_audit_names_stays_as_long_as_a_user_was_seen_on_it() {
    let db = memory();
    page(&db, &[(1, 10, "a"), (1, 50, "b")]);
    prune(&db, 50, 0, 10).unwrap();
    assert_eq!(user_at(&db, 1, 60), seen("b", 50));
    prune(&db, 51, 0, 10).unwrap();
    assert_eq!((count(&db, "device"), count(&db, "last_user")), (0, 0));
}

#[test]
fn a_row_without_an_id_is_of_the_one_listed_device_of_its_organization_that_has_the_hosts_name() {
    let db = memory();
    let list = |organization, computer, mode: &str| {
        let facts = Facts { host: Some("ws-1".into()), mode: Some(mode.into()), ..Facts::default() };
        note_listed(
            &db,
            &Told { organization, ..told(computer, 10, "", Some(&facts)) },
            UserOrigin::Computer,
            LATER,
        )
        .unwrap();
    };
    let by_host = |organization, user: &str| {
        let (computer, user) = (Computer::Host("ws-1".into()), Some(user.to_owned()));
        let sighting = Arc::new(Sighting { computer, user, facts: None });
        let looked = note_seen(&db, &[Some(Told { organization, at: 20, sighting })], 20).unwrap();
        let known = looked.of(0);
        known.device.map(|device| (device.mode.unwrap().to_owned(), known.user.unwrap().name.to_owned()))
    };
    list(1, 1, "one");
    list(2, 1, "two");
    assert_eq!(by_host(1, "a"), Some(("one".into(), "a".into())));
    assert_eq!(
        by_host(2, "b"),
        Some(("two".into(), "b".into())),
        "names repeat across organizations, and so do ids"
    );
    assert_eq!(user_at(&db, 1, 20), seen("a", 20), "it counts for the device, too");
    assert_eq!(by_host(3, "c"), None);
    list(1, 2, "new");
    assert_eq!(by_host(1, "a"), None, "of two nobody knows which is meant");
    note_removed(&db, 1, "pc-1", 60).unwrap();
    assert_eq!(by_host(1, "a"), Some(("new".into(), "a".into())), "a machine that was set up anew");
    assert_eq!(count(&db, "device"), 3, "a name makes no device");
}

#[test]
fn of_a_computer_that_many_use_at_once_so_many_changes_of_user_are_kept_and_of_others_all() {
    let db = memory();
    let most = i64::from(MOST_USERS);
    let rows = |computer, number| -> Vec<_> {
        (0..number).map(|at| (computer, at, if at % 2 == 0 { "a" } else { "b" })).collect()
    };
    page(&db, &rows(1, most + 9));
    page(&db, &rows(2, most));
    prune(&db, 0, 0, 10).unwrap();
    assert_eq!(count(&db, "last_user"), 2 * most);
    assert_eq!((user_at(&db, 1, 8), user_at(&db, 1, 9)), (None, seen("b", 9)), "the newest");
}

#[test]
fn devices_of_a_connection_are_known_once_it_listed_one() {
    let db = memory();
    let other = connections::register(&db, "other").unwrap().id;
    page(&db, &[(1, 10, "a")]);
    assert!(!any_listed(&db, 1).unwrap(), "the audit lists nothing");
    list(&db, 1, 10, "");
    assert_eq!((any_listed(&db, 1).unwrap(), any_listed(&db, other).unwrap()), (true, false));
}

#[test]
fn the_history_grows_with_changes_and_not_with_rows_in_whatever_order_they_are_read() {
    for newest_first in [false, true] {
        let db = memory();
        for minute in 0..1_000 {
            let minute = if newest_first { 1_000 - minute } else { minute };
            page(&db, &[(1, minute * MINUTE, "a"), (1, minute * MINUTE + 1, "")]);
        }
        assert_eq!(count(&db, "last_user"), 1);
        let written: i64 = db.query_row("SELECT total_changes()", [], |row| row.get(0)).unwrap();
        assert!(written < 500, "newest first: {newest_first}: {written} rows written");
        assert_eq!(user_at(&db, 1, 999 * MINUTE).unwrap().0, "a");
    }
}

#[test]
fn a_renamed_site_keeps_what_is_known_and_a_retired_one_until_its_outbox_is_empty() {
    let db = memory();
    let acme = connections::register(&db, "acme").unwrap().id;
    let own = OrganizationId::new("5d1");
    let organization = connections::organization(&db, acme, &own, None, 1).unwrap();
    let mut row = told(1, 10, "a", None);
    row.organization = organization;
    note_seen(&db, &[Some(row.clone())], 0).unwrap();
    connections::retire_all_but(&db, &["acme-de"]).unwrap();
    let entry = "INSERT INTO outbox VALUES (?1, 0, 1, 1, 'unified_audit', 0, 0, 0, x'')";
    db.execute(entry, [acme]).unwrap();
    assert_eq!(prune(&db, 0, 0, 10).unwrap(), None);
    assert_eq!(count(&db, "last_user"), 1);
    // What `connections::inherit` does.
    let renamed = connections::register(&db, "acme-de").unwrap().id;
    db.execute("UPDATE organization SET connection_id = ?1", [renamed]).unwrap();
    db.execute("DELETE FROM outbox", []).unwrap();
    assert_eq!(connections::organization(&db, renamed, &own, None, 1).unwrap(), organization);
    prune(&db, 0, 0, 10).unwrap();
    row.at = 20;
    let known = note_seen(&db, &[Some(row)], 0).unwrap();
    assert_eq!(known.of(0).user.unwrap().time, Some(10));
    connections::retire_all_but(&db, &["acme"]).unwrap();
    prune(&db, 0, 0, 10).unwrap();
    assert_eq!((count(&db, "last_user"), count(&db, "device")), (0, 0));
}

const USERS: [&str; 4] = ["", "a", "b", "c"];

/// A page of rows, as computer and user, and before it perhaps a listing of a computer.
type Step = (Vec<(u8, usize)>, Option<(u8, usize)>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = prop::collection::vec((0..2_u8, 0..USERS.len()), 1..11);
    let listed = prop::option::weighted(0.1, (0..2_u8, 1..USERS.len()));
    prop::collection::vec((rows, listed), 1..30)
}

/// A page's rows in no order, each at a time of its own.
fn rows_of(rows: &[(u8, usize)], start: Micros) -> Vec<(u8, Micros, &'static str)> {
    let at = |place: usize| start + (place as Micros * 7) % 11 * SECOND;
    rows.iter().enumerate().map(|(place, (computer, user))| (*computer, at(place), USERS[*user])).collect()
}

/// The newest run of equal names at a time.
fn run<'n>(told: &BTreeMap<(u8, Micros), &'n str>, computer: u8, at: Micros) -> Option<(&'n str, Micros)> {
    let mut newest_first = told.range((computer, Micros::MIN)..=(computer, at)).rev();
    let ((_, mut since), name) = newest_first.next().map(|(key, name)| (*key, *name))?;
    for ((_, earlier), _) in newest_first.take_while(|(_, other)| **other == name) {
        since = *earlier;
    }
    Some((name, since))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn while_time_goes_on_every_row_has_the_newest_person_seen_or_listed(steps in steps()) {
        let db = memory();
        let (mut listings, mut sightings) = (BTreeMap::new(), BTreeMap::new());
        for (number, (rows, listing)) in (0..).zip(&steps) {
            let start = number * MINUTE;
            if let Some((computer, user)) = listing {
                list(&db, *computer, start, USERS[*user]);
                listings.insert((*computer, start), USERS[*user]);
            }
            let rows = rows_of(rows, start);
            for (computer, at, user) in rows.iter().filter(|(_, _, user)| !user.is_empty()) {
                sightings.insert((*computer, *at), *user);
            }
            for ((computer, at, _), user) in rows.iter().zip(page(&db, &rows)) {
                let expected = match run(&listings, *computer, *at) {
                    Some((name, since)) => listed(name, since),
                    None => run(&sightings, *computer, *at).and_then(|(name, since)| seen(name, since)),
                };
                prop_assert_eq!(user, expected);
            }
        }
    }

    #[test]
    fn in_any_order_nobody_is_invented_and_pruning_changes_no_answer_from_its_time_on(
        steps in steps(),
        starts in prop::collection::vec(0..40_i64, 30),
        cut in 0..40_i64,
    ) {
        let db = memory();
        let mut told = BTreeMap::new();
        for (place, ((rows, listing), start)) in steps.iter().zip(starts).enumerate() {
            // Pages of every quarter of an hour, and no two rows at one time.
            let start = start * 15 * MINUTE + place as Micros;
            if let Some((computer, user)) = listing {
                list(&db, *computer, start, USERS[*user]);
            }
            let rows = rows_of(rows, start);
            told.extend(rows.iter().map(|(computer, at, user)| ((*computer, *at), *user)));
            for ((computer, at, own), user) in rows.iter().zip(page(&db, &rows)) {
                if let Some((name, UserOrigin::UnifiedAudit, since)) = &user {
                    prop_assert!(since <= at && told.get(&(*computer, *since)) == Some(&name.as_str()));
                    prop_assert!(own.is_empty() || own == name);
                }
                prop_assert!(own.is_empty() || user.is_some());
            }
        }
        let repeats = "SELECT count(*) FROM (SELECT name = lag(name) OVER
            (PARTITION BY device, origin ORDER BY since) AS again FROM last_user WHERE origin = 1) WHERE again";
        prop_assert_eq!(db.query_row(repeats, [], |row| row.get::<_, i64>(0)).unwrap(), 0);

        // Listed, so that the devices stay.
        for computer in [0, 1] {
            list(&db, computer, 0, "");
        }
        let cut = cut * 15 * MINUTE;
        let answers = || -> Vec<_> {
            let times = (0..80).map(|step| cut + step * 15 * MINUTE / 2);
            times.flat_map(|at| [0, 1].map(|computer| user_at(&db, computer, at))).collect()
        };
        let before = answers();
        let (mut after, mut calls) = (Some(0), 0);
        while let Some(device) = after {
            after = prune(&db, cut, device, 1).unwrap();
            calls += 1;
        }
        prop_assert_eq!(calls, 3, "one device a call");
        prop_assert_eq!(answers(), before);
        let old = "SELECT ifnull(max(rows), 0) FROM
            (SELECT count(*) AS rows FROM last_user WHERE since <= ?1 AND name <> '' GROUP BY device, origin)";
        prop_assert!(db.query_row(old, [cut], |row| row.get::<_, i64>(0)).unwrap() <= 1);
    }
}

/// What may be done with devices.
#[derive(Clone, Debug)]
enum Act {
    Page { rows: Vec<(u8, usize)>, start: Micros, undone: bool },
    List { computer: u8, user: usize, at: Micros },
    Report { computer: u8, user: usize, at: Micros },
    Remove(u8),
    Prune(Micros),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let at = || (0..40_i64).prop_map(|quarter| quarter * 5 * MINUTE);
    let user = || 0..USERS.len();
    let rows = prop::collection::vec((0..3_u8, user()), 1..8);
    let act = prop_oneof![
        6 => (rows, at(), prop::bool::weighted(0.2))
            .prop_map(|(rows, start, undone)| Act::Page { rows, start, undone }),
        2 => (0..3_u8, user(), at()).prop_map(|(computer, user, at)| Act::List { computer, user, at }),
        1 => (0..3_u8, user(), at()).prop_map(|(computer, user, at)| Act::Report { computer, user, at }),
        1 => (0..3_u8).prop_map(Act::Remove),
        1 => at().prop_map(Act::Prune),
    ];
    prop::collection::vec(act, 1..40)
}

impl Act {
    /// Answers all that is told meanwhile.
    fn play(&self, db: &WriterDb) -> String {
        let facts = |user: &usize| Facts { mode: Some(format!("m{user}")), ..Facts::default() };
        let listed = |computer, user: &usize, at, origin| {
            let told = told(computer, at, USERS[*user], Some(&facts(user)));
            note_listed(db, &told, origin, LATER).unwrap();
        };
        match self {
            Self::Page { rows, start, undone } => {
                db.execute_batch("SAVEPOINT job").unwrap();
                let rows = rows_of(rows, *start);
                let told = rows.iter().map(|(computer, at, user)| Some(told(*computer, *at, user, None)));
                let looked = note_seen(db, &told.collect::<Vec<_>>(), 0).unwrap();
                if *undone {
                    db.execute_batch("ROLLBACK TO job").unwrap();
                    db.undone();
                }
                db.execute_batch("RELEASE job").unwrap();
                let known = (0..rows.len()).map(|place| looked.of(place));
                return format!("{:?}", known.collect::<Vec<_>>());
            }
            Self::List { computer, user, at } => listed(*computer, user, *at, UserOrigin::Computer),
            Self::Report { computer, user, at } => listed(*computer, user, *at, UserOrigin::Report),
            Self::Remove(computer) => note_removed(db, 1, &format!("pc-{computer}"), 50 * MINUTE).unwrap(),
            Self::Prune(before) => return format!("{:?}", prune(db, *before, 0, 10).unwrap()),
        }
        String::new()
    }
}

/// The tables, as text.
fn tables(db: &Connection) -> String {
    let all =
        "SELECT group_concat(quote(id) || quote(computer) || quote(mode) || quote(unlisted)) FROM device
         UNION ALL SELECT group_concat(device || '/' || origin || '/' || since || name) FROM last_user";
    let mut all = db.prepare(all).unwrap();
    let all = all.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
    format!("{:?}", all.collect::<Result<Vec<_>, _>>().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_in_memory_tells_what_the_tables_do(acts in acts()) {
        let (remembers, looks) = (memory(), memory());
        for act in acts {
            looks.undone();
            prop_assert_eq!(act.play(&remembers), act.play(&looks), "{:?}", act);
            prop_assert_eq!(tables(&remembers), tables(&looks), "{:?}", act);
        }
    }
}

#[test]
fn of_however_many_devices_a_page_tells_no_more_than_so_many_are_in_memory() {
    let db = memory();
    let row = |computer: usize| {
        let (computer, user) = (Computer::Id(format!("pc-{computer}")), Some("a".to_owned()));
        Some(Told { organization: 1, at: 10, sighting: Arc::new(Sighting { computer, user, facts: None }) })
    };
    let rows: Vec<_> = (0..recent::MOST).map(row).collect();
    let looked = note_seen(&db, &rows, 10).unwrap();
    assert!((0..rows.len()).all(|place| looked.of(place).user.is_some()));
    assert!((1..=recent::MOST).contains(&db.recent.borrow().held()));
}
