//! How large the files become.

use lockstep::simulator::world::WorldOptions;

use crate::support::app::{SOON, Setup, TestApp, fresh_seed};
use crate::support::output::files;

const SIZE: usize = 64 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_large_the_backlog_no_file_outgrows_its_size_by_more_than_a_record() {
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 20_000, ..WorldOptions::default() };
    let sink = ", rotate: { size: 64KiB }".to_owned();
    let app = TestApp::start(Setup { world, sink, ..Setup::default() }).await;
    app.wait_caught_up(2 * SOON).await;
    let out = app.out_folder();
    let mut sizes = Vec::new();
    for file in files(&out) {
        let text = std::fs::read_to_string(&file).unwrap();
        let record = text.lines().map(str::len).max().unwrap_or(0);
        assert!(text.len() - record <= SIZE, "{} bytes, a record at most {record}", text.len());
        sizes.push(text.len());
    }
    sizes.sort_unstable();
    app.note("rotation", format_args!("{} files", sizes.len()));
    assert!(sizes.len() > 100 && sizes[sizes.len() / 2] > SIZE / 4, "too many small files: {sizes:?}");
}
