//! The plain day: a backlog, a live listing, a stop.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::app::{SOON, Setup, TestApp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_backlog_and_a_live_listing_end_in_files_once_each() {
    let app = TestApp::start(Setup::default()).await;
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("a plain day").await;
}

#[test]
fn the_simulated_portal_alone_ends_well_on_either_signal() {
    for signal in ["INT", "TERM"] {
        let mut portal = Command::new(env!("CARGO_BIN_EXE_lockstep"))
            .args(["simulate", "--backlog-hours", "1", "--rows-per-day", "1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = String::new();
        BufReader::new(portal.stdout.take().unwrap()).read_line(&mut told).unwrap();
        assert!(told.contains("\"token\""), "{told}");
        let sent = Command::new("kill").args(["-s", signal, &portal.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let ended = portal.wait().unwrap();
        assert_eq!(ended.code(), Some(0), "{signal}: {ended}");
    }
}
