use std::process::Command;
use std::sync::mpsc::channel;

use rusqlite::params;

use super::*;

#[tokio::test]
async fn a_damaged_state_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let path = store.path().to_path_buf();
    let fill = |db: &WriterDb| {
        for number in 0..2000 {
            db.execute("INSERT INTO meta VALUES (?1, ?2)", params![format!("k{number:060}"), b"v"])?;
        }
        Ok(())
    };
    store.write(fill).await.unwrap();
    store.close().await;
    let sound = std::fs::read(&path).unwrap();
    let half = sound.len() / 2;
    for what in ["header", "pages", "cut"] {
        let mut bytes = sound.clone();
        match what {
            "header" => bytes[..16].fill(b'x'),
            "pages" => bytes[half..half + 20_000].fill(0xa5),
            _ => bytes.truncate(half),
        }
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(dir.path(), clock()).err().unwrap();
        assert!(matches!(&error, StoreError::Corrupt { .. }), "{what}: {error}");
        assert!(error.to_string().contains("move it aside"), "{what}: {error}");
    }
    std::fs::write(&path, sound).unwrap();
    assert_eq!(keys(&open(&dir)).await.len(), 2000);
}

fn big(key: &'static str) -> impl FnOnce(&WriterDb) -> Result<(), StoreError> + Send {
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
        move |db: &WriterDb| -> Result<(), StoreError> {
            Ok(db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
        }
    };
    store.write(limit(80)).await.unwrap();
    let error = store.write(big("k1")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Full { .. }) && error.is_transient(), "{error}");
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
    let huge = |db: &WriterDb| Ok(db.execute("INSERT INTO meta VALUES ('k', zeroblob(70000000))", [])?);
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
    let huge = |db: &WriterDb| Ok(db.execute("INSERT INTO meta VALUES ('k', zeroblob(70000000))", [])?);
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
        |db: &WriterDb| Ok(db.execute("UPDATE meta SET value = zeroblob(20000000) WHERE key = 'k'", [])?);
    store.write(fill).await.unwrap();
    store.write(put("l")).await.unwrap();
    let log = std::fs::metadata(dir.path().join("state.db-wal")).unwrap().len();
    assert!(log <= sqlite::WAL_LIMIT, "the log has {log} bytes");
}

#[tokio::test]
async fn deleted_room_is_given_back_in_idle_moments() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let huge = |db: &WriterDb| Ok(db.execute("INSERT INTO meta VALUES ('huge', zeroblob(40000000))", [])?);
    store.write(huge).await.unwrap();
    let delete = |db: &WriterDb| Ok(db.execute("DELETE FROM meta WHERE key = 'huge'", [])?);
    store.write(delete).await.unwrap();
    let pages = |db: &Connection| Ok(db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))?);
    let mut idle_moments = 0;
    while store.read(pages).await.unwrap() > 5000 {
        idle_moments += 1;
        assert!(idle_moments < 1000, "the file does not shrink");
        store.write(|_| Ok(())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    store.close().await;
    let bytes = std::fs::metadata(dir.path().join("state.db")).unwrap().len();
    assert!(bytes <= 5000 * 4096, "{bytes} bytes are left");
}

#[test]
fn the_check_of_a_large_state_leaves_out_nothing_but_the_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (db, _) = sqlite::open_writer(&path, &clock()).unwrap();
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                INSERT INTO meta SELECT printf('k%060d', i), x'' FROM n";
    db.execute_batch(fill).unwrap();
    let page: usize =
        db.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0)).unwrap();
    assert_eq!(sqlite::check_all_but_outbox(&db).unwrap(), "ok");
    drop(db);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[page * 4096 - 2000..page * 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let db = Connection::open(&path).unwrap();
    assert!(!matches!(sqlite::check_all_but_outbox(&db), Ok(answer) if answer == "ok"));
}
