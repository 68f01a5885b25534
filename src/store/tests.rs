use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use rusqlite::params;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;

/// A migrated database in memory, for functions that take a connection.
pub(crate) fn memory() -> Connection {
    sqlite::open_memory(&clock()).unwrap().0
}

pub(crate) fn clock() -> Clock {
    Clock::shifted(chrono::Duration::zero(), 1)
}

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), clock()).unwrap()
}

/// Puts a key into `meta`, the plainest table.
fn put(key: impl Into<String>) -> impl FnOnce(&Connection) -> Result<(), StoreError> + Send {
    let key = key.into();
    move |db| {
        db.execute("INSERT INTO meta VALUES (?1, x'')", [key])?;
        Ok(())
    }
}

async fn keys(store: &Store) -> Vec<String> {
    let read = |db: &Connection| {
        let mut keys = db.prepare("SELECT key FROM meta WHERE key LIKE 'k%' ORDER BY key")?;
        let keys = keys.query_map([], |row| row.get(0))?;
        Ok(keys.collect::<Result<_, _>>()?)
    };
    store.read(read).await.unwrap()
}

/// Holds the writer inside a job until the returned sender is used, so that jobs queue up behind it.
async fn hold(store: &Store) -> std::sync::mpsc::Sender<()> {
    let (release, released) = channel();
    let (started, is_started) = oneshot::channel();
    let store = store.clone();
    tokio::spawn(async move {
        let job = move |_: &Connection| {
            started.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        };
        store.write(job).await.unwrap();
    });
    is_started.await.unwrap();
    release
}

/// Lets spawned tasks run until each has queued its job.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (secret, state_id) = (store.secret(), store.state_id());
    store.write(put("k1")).await.unwrap();
    store.close().await;
    let store = Store::open(dir.path(), Clock::shifted(chrono::Duration::zero(), 99)).unwrap();
    assert_eq!(keys(&store).await, ["k1"]);
    assert_eq!((store.secret(), store.state_id()), (secret, state_id));
    assert_ne!(secret, [0; 32]);
}

#[tokio::test]
async fn waiting_jobs_share_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let release = hold(&store).await;
    let mut jobs = JoinSet::new();
    for number in 0..50 {
        let store = store.clone();
        jobs.spawn(async move { store.write(put(format!("k{number}"))).await });
    }
    settle().await;
    release.send(()).unwrap();
    for done in jobs.join_all().await {
        done.unwrap();
    }
    assert_eq!(store.commits(), 1);
    assert_eq!(keys(&store).await.len(), 50);
}

#[tokio::test]
async fn no_job_is_answered_before_the_commit_it_shares() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let release_first = hold(&store).await;
    let early = tokio::spawn({
        let store = store.clone();
        async move { store.write(put("k1")).await }
    });
    settle().await;
    let release_last = {
        let (release, released) = channel();
        let (started, is_started) = oneshot::channel();
        let store = store.clone();
        tokio::spawn(async move {
            let job = move |_: &Connection| {
                started.send(()).unwrap();
                released.recv().unwrap();
                Ok(())
            };
            store.write(job).await.unwrap();
        });
        settle().await;
        release_first.send(()).unwrap();
        is_started.await.unwrap();
        release
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!early.is_finished(), "its changes are not on disk yet");
    assert!(keys(&store).await.is_empty());
    release_last.send(()).unwrap();
    early.await.unwrap().unwrap();
    assert_eq!(keys(&store).await, ["k1"]);
}

#[tokio::test]
async fn a_failing_or_panicking_job_is_undone_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let release = hold(&store).await;
    let spawn = |job: Box<dyn FnOnce(&Connection) -> Result<(), StoreError> + Send>| {
        let store = store.clone();
        tokio::spawn(async move { store.write(job).await })
    };
    let before = spawn(Box::new(put("k1")));
    let failing = spawn(Box::new(|db| {
        put("k2")(db)?;
        Err(StoreError::Fenced { connection: 1, epoch: 2 })
    }));
    let panicking = spawn(Box::new(|db| {
        put("k3")(db)?;
        panic!("planted")
    }));
    let refused = spawn(Box::new(put("k1")));
    let after = spawn(Box::new(put("k4")));
    settle().await;
    release.send(()).unwrap();
    before.await.unwrap().unwrap();
    assert!(matches!(failing.await.unwrap(), Err(StoreError::Fenced { .. })));
    assert!(
        matches!(panicking.await.unwrap(), Err(StoreError::Panicked { message }) if message == "planted")
    );
    let refused = refused.await.unwrap().unwrap_err();
    assert!(matches!(&refused, StoreError::Database { .. }), "{refused}");
    assert!(refused.to_string().contains("state.db"), "{refused}");
    after.await.unwrap().unwrap();
    assert_eq!(store.commits(), 1);
    assert_eq!(keys(&store).await, ["k1", "k4"]);
}

#[tokio::test]
async fn a_lost_transaction_fails_all_its_jobs_and_none_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let release = hold(&store).await;
    let before = tokio::spawn({
        let store = store.clone();
        async move { store.write(put("k1")).await }
    });
    settle().await;
    let losing = tokio::spawn({
        let store = store.clone();
        // As SQLite does by itself on some failures of the disk.
        async move { store.write(|db| Ok(db.execute_batch("ROLLBACK")?)).await }
    });
    settle().await;
    release.send(()).unwrap_or_default();
    assert!(before.await.unwrap().is_err());
    assert!(losing.await.unwrap().is_err());
    store.write(put("k2")).await.unwrap();
    assert_eq!(keys(&store).await, ["k2"]);
}

#[tokio::test]
async fn a_job_is_done_though_its_caller_went_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let release = hold(&store).await;
    let caller = tokio::spawn({
        let store = store.clone();
        async move { store.write(put("k1")).await }
    });
    settle().await;
    caller.abort();
    settle().await;
    release.send(()).unwrap();
    store.write(|_| Ok(())).await.unwrap();
    assert_eq!(keys(&store).await, ["k1"]);
}

#[tokio::test]
async fn closing_finishes_what_waits_and_frees_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let other = store.clone();
    let release = hold(&store).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.write(put("k1")).await }
    });
    settle().await;
    let closing = tokio::spawn(store.close());
    settle().await;
    release.send(()).unwrap();
    closing.await.unwrap();
    waiting.await.unwrap().unwrap();
    assert!(matches!(other.write(put("k2")).await, Err(StoreError::Closed)));
    assert!(matches!(other.read(|_| Ok(())).await, Err(StoreError::Closed)));
    assert!(!dir.path().join("state.db-wal").exists(), "the log is folded in");
    assert_eq!(keys(&open(&dir)).await, ["k1"]);
}

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
    let error = beside.read(put("k3")).await.unwrap_err();
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
        assert!(matches!(&error, StoreError::Newer { found: 99, known: 1, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_state_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let path = store.path().to_path_buf();
    let fill = |db: &Connection| {
        for number in 0..2000 {
            db.execute("INSERT INTO meta VALUES (?1, ?2)", params![format!("k{number:060}"), b"v"])?;
        }
        Ok(())
    };
    store.write(fill).await.unwrap();
    store.close().await;
    let sound = std::fs::read(&path).unwrap();
    let damages: [(&str, fn(&mut Vec<u8>)); 3] = [
        ("header", |bytes| bytes[..16].fill(b'x')),
        ("pages", |bytes| {
            let half = bytes.len() / 2;
            bytes[half..half + 20_000].fill(0xa5);
        }),
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
    ];
    for (what, damage) in damages {
        let mut bytes = sound.clone();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(dir.path(), clock()).err().unwrap();
        assert!(matches!(&error, StoreError::Corrupt { .. }), "{what}: {error}");
        assert!(error.to_string().contains("move it aside"), "{what}: {error}");
    }
    std::fs::write(&path, sound).unwrap();
    assert_eq!(keys(&open(&dir)).await.len(), 2000);
}

fn big(key: &'static str) -> impl FnOnce(&Connection) -> Result<(), StoreError> + Send {
    move |db| {
        db.execute("INSERT INTO meta VALUES (?1, zeroblob(400000))", [key])?;
        Ok(())
    }
}

#[tokio::test]
async fn a_full_database_fails_the_job_and_works_again_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let limit = |pages: i64| {
        move |db: &Connection| -> Result<(), StoreError> {
            Ok(db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
        }
    };
    store.write(limit(80)).await.unwrap();
    let error = store.write(big("k1")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Full { .. }) && error.passes(), "{error}");
    store.write(put("k2")).await.unwrap();
    store.write(limit(10_000)).await.unwrap();
    store.write(big("k3")).await.unwrap();
    assert_eq!(keys(&store).await, ["k2", "k3"]);
}

/// A small file system of its own, where the user may mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(dir))
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", options]).arg(self.0.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0.path()).status().unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_job_and_works_again_once_there_is_room() {
    let Some(disk) = SmallDisk::mount("3m") else {
        eprintln!("SKIPPED: this user cannot mount a file system");
        return;
    };
    let dir = disk.0.path().join("state");
    let store = Store::open(&dir, clock()).unwrap();
    store.write(put("k1")).await.unwrap();
    let ballast = disk.0.path().join("ballast");
    let filled = std::fs::write(&ballast, vec![1; 4 * 1024 * 1024]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    for _ in 0..3 {
        let error = store.write(big("k2")).await.unwrap_err();
        assert!(matches!(&error, StoreError::Full { .. }), "{error}");
    }
    assert_eq!(keys(&store).await, ["k1"]);
    std::fs::remove_file(&ballast).unwrap();
    store.write(big("k3")).await.unwrap();
    assert_eq!(keys(&store).await, ["k1", "k3"]);
    store.close().await;

    std::fs::write(&ballast, vec![1; 4 * 1024 * 1024]).unwrap_err();
    let fresh = Store::open(&disk.0.path().join("other"), clock()).err().unwrap();
    assert!(matches!(&fresh, StoreError::Full { .. }), "{fresh}");

    std::fs::remove_file(&ballast).unwrap();
    disk.remount("remount,ro");
    let error = Store::open(&dir, clock()).err().unwrap();
    assert!(matches!(&error, StoreError::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn the_log_is_cut_back_after_a_huge_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let huge = |db: &Connection| Ok(db.execute("INSERT INTO meta VALUES ('k', zeroblob(70000000))", [])?);
    store.write(huge).await.unwrap();
    store.write(put("k1")).await.unwrap();
    let log = std::fs::metadata(dir.path().join("state.db-wal")).unwrap().len();
    assert!(log < 1024 * 1024, "the log has {log} bytes");
}

#[tokio::test]
async fn a_long_reader_holds_up_neither_jobs_nor_the_log_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (release, released) = channel::<()>();
    let (started, is_started) = oneshot::channel();
    let reader = tokio::spawn({
        let store = store.clone();
        async move {
            let job = move |db: &Connection| {
                let rows: i64 = db.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))?;
                started.send(()).unwrap();
                released.recv().unwrap();
                let later: i64 = db.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))?;
                Ok((rows, later))
            };
            store.read(job).await.unwrap()
        }
    });
    is_started.await.unwrap();
    let huge = |db: &Connection| Ok(db.execute("INSERT INTO meta VALUES ('k', zeroblob(70000000))", [])?);
    store.write(huge).await.unwrap();
    let begin = tokio::time::Instant::now();
    for number in 0..10 {
        store.write(put(format!("k{number}"))).await.unwrap();
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    release.send(()).unwrap();
    let (rows, later) = reader.await.unwrap();
    assert_eq!(rows, later, "one picture from start to end");
    let fill =
        |db: &Connection| Ok(db.execute("UPDATE meta SET value = zeroblob(20000000) WHERE key = 'k'", [])?);
    store.write(fill).await.unwrap();
    store.write(put("l")).await.unwrap();
    let log = std::fs::metadata(dir.path().join("state.db-wal")).unwrap().len();
    assert!(log <= sqlite::WAL_LIMIT, "the log has {log} bytes");
}

#[tokio::test]
async fn deleted_room_is_given_back_in_idle_moments() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let huge = |db: &Connection| Ok(db.execute("INSERT INTO meta VALUES ('huge', zeroblob(40000000))", [])?);
    store.write(huge).await.unwrap();
    let delete = |db: &Connection| Ok(db.execute("DELETE FROM meta WHERE key = 'huge'", [])?);
    store.write(delete).await.unwrap();
    for number in 0..15 {
        store.write(put(format!("k{number}"))).await.unwrap();
    }
    store.close().await;
    let bytes = std::fs::metadata(dir.path().join("state.db")).unwrap().len();
    assert!(bytes < 20_000_000, "{bytes} bytes are left");
}
