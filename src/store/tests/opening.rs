use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rusqlite::params;

use super::*;
use crate::model::SECOND;
use crate::store::seen::{self, SeenRow};

#[tokio::test]
async fn a_second_opening_says_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let error = Store::open(dir.path(), clock()).err().unwrap();
    assert!(
        matches!(&error, StoreError::InUse { pid: Some(pid), .. } if *pid == std::process::id()),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
    // Another process meets the same lock.
    let lock = dir.path().join("lock");
    let other = Command::new("flock").arg("--nonblock").arg(&lock).arg("true").status().unwrap();
    assert_eq!(other.code(), Some(1));
    store.close().await;
    open(&dir);
}

#[tokio::test]
async fn a_reading_handle_works_beside_the_service_and_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Store::open_read_only(dir.path()).err().unwrap();
    assert!(matches!(missing, StoreError::Missing { .. }), "{missing}");
    let store = open(&dir);
    store.write(put("k1")).await.unwrap();
    let beside = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(keys(&beside).await, ["k1"]);
    assert_eq!(beside.state_id(), store.state_id());
    store.write(put("k2")).await.unwrap();
    assert_eq!(keys(&beside).await, ["k1", "k2"]);
    assert!(matches!(beside.write(put("k3")).await, Err(StoreError::OnlyReads)));
    let insert = |db: &Connection| Ok(db.execute("INSERT INTO meta VALUES ('k3', x'')", [])?);
    let error = beside.read(insert).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    beside.close().await;
    store.close().await;
    assert_eq!(keys(&Store::open_read_only(dir.path()).unwrap()).await, ["k1", "k2"]);
}

#[tokio::test]
async fn a_panic_while_reading_costs_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for _ in 0..10 {
        let error = store.read::<()>(|_| panic!("planted")).await.unwrap_err();
        assert!(matches!(error, StoreError::Panicked { .. }), "{error}");
    }
    assert!(keys(&store).await.is_empty());
}

#[tokio::test]
async fn a_state_in_memory_reads_what_it_wrote() {
    let store = Store::open_in_memory(clock()).unwrap();
    store.write(put("k1")).await.unwrap();
    assert_eq!(keys(&store).await, ["k1"]);
}

#[tokio::test]
async fn the_state_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/state");
    let store = Store::open(&dir, clock()).unwrap();
    store.write(put("k1")).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in ["lock", "state.db", "state.db-wal", "state.db-shm"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_state_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let path = store.path().to_path_buf();
    store.close().await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for error in [Store::open(dir.path(), clock()).err(), Store::open_read_only(dir.path()).err()] {
        let error = error.unwrap();
        assert!(matches!(&error, StoreError::Newer { found: 99, known: 12, .. }), "{error}");
    }
}

/// Takes back what the eighth version added.
const BEFORE_THE_EIGHTH: &str = "
    DROP TRIGGER owed_added; DROP TRIGGER owed_deleted;
    DROP TABLE refill; DROP TABLE owed; DROP TABLE owed_total; DROP TABLE replay; DROP TABLE walk_again;
    ALTER TABLE position DROP COLUMN confirmed; ALTER TABLE position DROP COLUMN doubtful;
    DROP TRIGGER dead_letter_added; DROP TRIGGER dead_letter_deleted;
    ALTER TABLE dead_letter DROP COLUMN entry; ALTER TABLE dead_letter DROP COLUMN collected; ALTER TABLE dead_letter DROP COLUMN lane;
    ALTER TABLE dead_letter DROP COLUMN whole;
    CREATE TRIGGER dead_letter_added AFTER INSERT ON dead_letter BEGIN
      UPDATE usage SET rows = rows + 1, bytes = bytes + 128 + length(NEW.body) WHERE what = 'dead_letter';
    END;
    CREATE TRIGGER dead_letter_deleted AFTER DELETE ON dead_letter BEGIN
      UPDATE usage SET rows = rows - 1, bytes = bytes - 128 - length(OLD.body) WHERE what = 'dead_letter';
    END;";
/// The table of seen rows up to the fourth version.
const SEEN_BY_UID: &str = "DROP TABLE seen;
    CREATE TABLE seen (
      set_id INTEGER NOT NULL, uid BLOB NOT NULL, at INTEGER NOT NULL, other INTEGER,
      organization INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (set_id, uid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX seen_time ON seen (set_id, at, organization, gone);";

#[tokio::test]
async fn a_state_of_the_first_version_is_brought_up_to_date_by_who_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.write(|db| connections::register(db, "acme")).await.unwrap();
    let path = store.path().to_path_buf();
    store.close().await;
    let old = Connection::open(&path).unwrap();
    old.execute_batch(BEFORE_THE_EIGHTH).unwrap();
    old.execute_batch("ALTER TABLE connection DROP COLUMN clock_offset; DROP TABLE withheld; DROP TABLE backfill; DROP TABLE seen_pack; DROP TABLE vendor_field; DROP TABLE device; DROP TABLE last_user; DROP TABLE sink_day; DROP TABLE asked; PRAGMA user_version = 1").unwrap();
    old.execute_batch(SEEN_BY_UID).unwrap();
    drop(old);
    let error = Store::open_read_only(dir.path()).err().unwrap();
    assert!(matches!(&error, StoreError::Older { .. }), "{error}");
    let store = open(&dir);
    let acme = store.write(|db| connections::register(db, "acme")).await.unwrap();
    assert_eq!((acme.site.as_str(), acme.clock_offset), ("acme", None));
    store.close().await;
    Store::open_read_only(dir.path()).unwrap();
}

#[tokio::test]
async fn what_a_state_of_the_third_version_has_seen_is_packed_and_stays_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let path = store.path().to_path_buf();
    store.close().await;
    let old = Connection::open(&path).unwrap();
    let row = |number: i64| SeenRow {
        uid: Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()),
        at: number * 40 * SECOND,
        other: Some(number * 41 * SECOND),
        organization: 1,
    };
    let rows: Vec<_> = (0..1_000).map(row).collect();
    old.execute_batch(BEFORE_THE_EIGHTH).unwrap();
    old.execute_batch(
        "DROP TABLE seen_pack; DROP TABLE vendor_field; DROP TABLE device; DROP TABLE last_user; DROP TABLE sink_day; DROP TABLE asked; PRAGMA user_version = 3",
    )
    .unwrap();
    old.execute_batch(SEEN_BY_UID).unwrap();
    for row in &rows {
        let values = params![row.uid.as_bytes(), row.at, row.other];
        old.execute("INSERT INTO seen VALUES (1, ?1, ?2, ?3, 1, 0)", values).unwrap();
    }
    drop(old);
    let store = open(&dir);
    let (packed, new, held) = store
        .write(move |db| {
            let packed = seen::pack(db, 1, 500 * 40 * SECOND)?;
            Ok((
                packed,
                seen::insert(db, 1, &rows, seen::ListedBy::TheSet)?,
                seen::held(db, 1, None, 0, 750 * 40 * SECOND)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!((packed, new, held), (500, vec![false; 1_000], 750));
}

#[tokio::test]
async fn what_was_seen_is_known_after_any_end_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let row = SeenRow { uid: Uuid::from_u128(7), at: SECOND, other: None, organization: 1 };
    for (expected, at) in [(true, SECOND), (false, SECOND), (false, 90_000 * SECOND)] {
        let store = open(&dir);
        let row = SeenRow { at, ..row };
        let inserted = store.write(move |db| seen::insert(db, 1, &[row], seen::ListedBy::TheSet)).await;
        assert_eq!(inserted.unwrap(), [expected]);
        store.close().await;
    }
}

#[tokio::test]
async fn a_missing_permission_is_called_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let path = store.path().to_path_buf();
    store.close().await;
    for mode in [0o000, 0o400] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        match Store::open(dir.path(), clock()) {
            Ok(_) => return eprintln!("SKIPPED: this user needs no permissions"),
            Err(error) => assert!(matches!(error, StoreError::PermissionDenied { .. }), "{error}"),
        }
    }
}
