use std::sync::mpsc::channel;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;

mod opening;
mod room;

/// A migrated database in memory, for functions that take a connection.
pub(crate) fn memory() -> WriterDb {
    sqlite::open_memory(&clock()).unwrap().0
}

pub(crate) fn clock() -> Clock {
    Clock::shifted(chrono::Duration::zero(), 1)
}

type PlainJob = Box<dyn FnOnce(&WriterDb) -> Result<(), StoreError> + Send>;

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), clock()).unwrap()
}

/// Puts a key into `meta`, the plainest table.
fn put(key: impl Into<String>) -> impl FnOnce(&WriterDb) -> Result<(), StoreError> + Send {
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
        let job = move |_: &WriterDb| {
            started.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        };
        // Whether it fails is up to the test: it may share its commit with jobs that do.
        drop(store.write(job).await);
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
            let job = move |_: &WriterDb| {
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
    let spawn = |job: PlainJob| {
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
async fn a_first_job_that_fails_takes_nothing_of_those_behind_it_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (release, released) = channel::<()>();
    let (started, is_started) = oneshot::channel();
    let failing = tokio::spawn({
        let store = store.clone();
        let job = move |db: &WriterDb| {
            put("k1")(db)?;
            started.send(()).unwrap();
            released.recv().unwrap();
            Err::<(), _>(StoreError::Fenced { connection: 1, epoch: 2 })
        };
        async move { store.write(job).await }
    });
    is_started.await.unwrap();
    let after = tokio::spawn({
        let store = store.clone();
        async move { store.write(put("k2")).await }
    });
    settle().await;
    release.send(()).unwrap();
    assert!(matches!(failing.await.unwrap(), Err(StoreError::Fenced { .. })));
    after.await.unwrap().unwrap();
    assert_eq!((store.commits(), keys(&store).await), (1, vec!["k2".to_owned()]));
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
    let refused_at_commit = |db: &WriterDb| {
        db.execute_batch("PRAGMA defer_foreign_keys = on; INSERT INTO claim VALUES ('a', 'computers', 999)")?;
        Ok(())
    };
    store.write(refused_at_commit).await.unwrap_err();
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
