//! The batch that is put together while another one is written.

use super::*;

#[tokio::test]
async fn the_batch_put_together_meanwhile_goes_on_where_the_one_being_written_ends() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, rows(0..60)).await;
    bench.append("beta", Lane::Backfill, rows(60..120)).await;
    let mut worker = bench.worker().await;
    let assembler = worker.assembler.clone();
    let work = worker.pending().await.unwrap().unwrap();
    let mut batch = assembler.assemble(work, 1, &CancellationToken::new()).await.unwrap().unwrap();
    let (mut positions, mut numbers) = (Positions::new(), Vec::new());
    loop {
        let records = batch.assembled.batch.records.iter();
        numbers.extend(records.map(|record| (record.connection, record.lane, record.number)));
        positions.extend(std::mem::take(&mut batch.assembled.positions));
        let ahead = assembler.look_ahead(positions.clone(), 1).await.unwrap().unwrap();
        match ahead.ready {
            Some(ready) => batch = ready,
            None => break,
        }
    }
    let wanted: Vec<_> = [(1, Lane::Live), (2, Lane::Backfill)]
        .into_iter()
        .flat_map(|(connection, lane)| (1..=60).map(move |number| (connection, lane, number)))
        .collect();
    assert_eq!(numbers, wanted);
    assert!(bench.positions().await.is_empty(), "looking ahead confirms nothing");
}

#[tokio::test]
async fn a_batch_that_fails_takes_the_one_put_together_behind_it_with_it() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, rows(0..200)).await;
    let mut worker = bench.worker().await;
    let stop = CancellationToken::new();
    assert_eq!(worker.round(&stop).await.unwrap(), Round::Delivered);
    assert!(worker.ahead.is_some());
    let part = bench.out().join("acme/audit.ndjson.part");
    let moved = bench.directory.path().join("moved");
    fs::rename(&part, &moved).unwrap();
    let error = worker.round(&stop).await.unwrap_err();
    worker.failed(&error, 1);
    assert!(worker.ahead.is_none(), "it would follow a batch that did not arrive");
    fs::rename(&moved, &part).unwrap();
    worker.until_empty(&stop).await.unwrap();
    assert_eq!(delivered(&bench.out()), (0..200).collect::<Vec<u64>>());
}

#[tokio::test]
async fn what_a_sink_lets_go_is_not_delivered_out_of_the_batch_put_together_before() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, rows(0..200)).await;
    let sinks = [("out", "out/{site}/{source}.ndjson"), ("other", "other/{site}/{source}.ndjson")];
    let mut workers = bench.workers(&sinks).await;
    let stop = CancellationToken::new();
    workers[1].until_empty(&stop).await.unwrap();
    let worker = &mut workers[0];
    worker.round(&stop).await.unwrap();
    assert!(worker.ahead.is_some());
    worker.settings.outbox_bytes = 1;
    worker.until_empty(&stop).await.unwrap();
    let status = worker.status();
    assert!(status.borrow().notices.iter().any(|notice| notice.text.contains("entries go")));
    // No portal lists them by time, so all of them wait for the sink.
    assert_eq!(sorted(delivered(&bench.out())), (0..200).collect::<Vec<u64>>());
}

#[tokio::test]
async fn two_lanes_that_have_much_take_turns_whether_or_not_the_sink_looks_ahead() {
    for looks_ahead in [false, true] {
        let bench = Bench::new();
        bench.append("acme", Lane::Live, rows(0..500)).await;
        bench.append("beta", Lane::Live, rows(500..1_000)).await;
        let mut worker = Worker { looks_ahead, ..bench.worker().await };
        let stop = CancellationToken::new();
        for _ in 0..4 {
            worker.round(&stop).await.unwrap();
        }
        let reached: Vec<_> = bench.positions().await.into_keys().map(|(connection, _)| connection).collect();
        assert_eq!(reached.len(), 2, "{looks_ahead}: one of them waits: {reached:?}");
    }
}
