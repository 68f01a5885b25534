//! The plain day: a backlog, a live listing, a stop.

use crate::support::app::{SOON, Setup, TestApp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_backlog_and_a_live_listing_end_in_files_once_each() {
    let app = TestApp::start(Setup::default()).await;
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("a plain day").await;
}
