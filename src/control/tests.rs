use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::status::tests::board;

struct Served {
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

fn served(dir: &Path) -> Served {
    let door = listen(dir).unwrap();
    let stop = CancellationToken::new();
    Served { task: tokio::spawn(serve(door, board().0, stop.clone())), stop }
}

async fn status_of(dir: &Path) -> Value {
    let answer = ask(dir, "GET", "/status").await.unwrap().expect("somebody listens");
    serde_json::from_slice(&answer.ok().unwrap()).unwrap()
}

#[tokio::test]
async fn a_running_program_tells_its_status_to_its_owner_alone() {
    let dir = TempDir::new().unwrap();
    let served = served(dir.path());
    let status = status_of(dir.path()).await;
    assert_eq!((&status["running"], &status["fresh"]), (&Value::Bool(true), &Value::Bool(true)));
    let mode = std::fs::metadata(dir.path().join(NAME)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    served.stop.cancel();
    served.task.await.unwrap().unwrap();
    assert!(!dir.path().join(NAME).exists());
    assert_eq!(ask(dir.path(), "GET", "/status").await.unwrap(), None);
}

#[tokio::test]
async fn the_socket_of_a_killed_program_is_nobody_and_is_replaced() {
    let dir = TempDir::new().unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join(NAME)).unwrap());
    assert!(dir.path().join(NAME).exists());
    assert_eq!(ask(dir.path(), "GET", "/status").await.unwrap(), None);
    let _served = served(dir.path());
    status_of(dir.path()).await;
}

#[tokio::test]
async fn without_a_state_nobody_runs() {
    let dir = TempDir::new().unwrap();
    assert_eq!(ask(&dir.path().join("none"), "GET", "/status").await.unwrap(), None);
}

#[tokio::test]
async fn a_state_directory_with_a_very_long_name_has_a_socket_like_any_other() {
    let dir = TempDir::new().unwrap();
    let long = dir.path().join("long".repeat(30)).join("longer".repeat(20));
    assert_eq!(ask(&long, "GET", "/status").await.unwrap(), None);
    std::fs::create_dir_all(&long).unwrap();
    let served = served(&long);
    status_of(&long).await;
    served.stop.cancel();
    served.task.await.unwrap().unwrap();
    assert!(!long.join(NAME).exists());
}

#[tokio::test]
async fn a_refusal_is_told_in_words() {
    let dir = TempDir::new().unwrap();
    let _served = served(dir.path());
    let answer = ask(dir.path(), "POST", "/confirm-removed?site=ghost").await.unwrap().unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.ok().unwrap_err(), "the running program knows no site ghost");
    let answer = ask(dir.path(), "POST", "/backfill?site=ghost&stream=1&from=0&to=9").await.unwrap().unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.ok().unwrap_err(), "the running program knows no such stream of site ghost");
    let answer = ask(dir.path(), "GET", "/nothing").await.unwrap().unwrap();
    assert!(answer.ok().unwrap_err().contains("404"));
}

#[test]
fn an_answer_that_was_cut_off_is_none() {
    let whole = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(parse(whole), Some(Answer { status: 200, body: b"hello".to_vec() }));
    for length in 0..whole.len() {
        assert_eq!(parse(&whole[..length]), None, "{length}");
    }
    assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
}
