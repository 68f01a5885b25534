//! What one row costs where it is not copied but read: keying it, naming it, and knowing it again when its hour
//! is packed.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lockstep::clock::Clock;
use lockstep::model::{SECOND, uid};
use lockstep::simulator::world::{Source as Audit, World, WorldOptions};
use lockstep::source::Source;
use lockstep::sources::unified_audit::UnifiedAudit;
use lockstep::store::seen::{self, SeenRow};
use lockstep::store::{Store, StoreError};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Rows of the hour that is packed: as many as one pack holds.
const PACKED: i64 = 4_096;
/// Rows of a page.
const PAGE: usize = 500;

fn rows() -> Vec<String> {
    let options =
        WorldOptions { backlog_hours: 1, odd_share: 0.0, short_rows: true, ..WorldOptions::default() };
    let world = World::new(options);
    let rows = world.rows(Audit::UnifiedAudit).iter().take(500);
    rows.map(|row| {
        let mut bytes = Vec::new();
        world.write_row(Audit::UnifiedAudit, row, &mut bytes);
        String::from_utf8(bytes).expect("the simulator writes text")
    })
    .collect()
}

fn keying(c: &mut Criterion) {
    let rows = rows();
    let mut group = c.benchmark_group("row");
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function("key", |bench| {
        bench.iter(|| {
            for row in &rows {
                drop(black_box(UnifiedAudit.key(black_box(row), 1)));
            }
        });
    });
    let (organization, id) = ("96984898-302d-5316-8d10-2c1ac39af9e4", "7f9c24e8-3b12-4fef-91e0-56a2d5a1b0c3");
    group.bench_function("uid", |bench| {
        bench.iter(|| {
            for _ in &rows {
                black_box(uid(organization, "unified_audit", black_box(id), "event", "0"));
            }
        });
    });
    group.finish();
}

fn packing(c: &mut Criterion) {
    let runtime = Runtime::new().expect("threads are to be had");
    let store = Store::open_in_memory(Clock::system()).expect("memory is to be had");
    let write = |job: fn(&rusqlite::Connection, i64, &[SeenRow]) -> Result<(), StoreError>, set, rows| {
        let job = store.write(move |db| job(db, set, rows));
        runtime.block_on(job).expect("nothing is wrong with a state in memory");
    };
    let row = |number: i64| {
        let at = number * 3_600 * SECOND / PACKED;
        let uid = Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes());
        SeenRow { uid, at, other: Some(at + 20 * SECOND), organization: 1 }
    };
    let rows: &'static [SeenRow] = (0..PACKED).map(row).collect::<Vec<_>>().leak();
    let page = rows.get(1_000..1_000 + PAGE).expect("the hour is longer than a page");
    let mut sets = 0;
    let mut young = || {
        sets += 1;
        write(|db, set, rows| seen::insert(db, set, rows).map(drop), sets, rows);
        sets
    };
    let pack = |set| write(|db, set, _| seen::pack(db, set, 3_600 * SECOND).map(drop), set, rows);
    let packed = young();
    pack(packed);
    let mut group = c.benchmark_group("seen");
    group.throughput(Throughput::Elements(PACKED.unsigned_abs()));
    group.bench_function("pack", |bench| bench.iter_batched(&mut young, pack, BatchSize::PerIteration));
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("look up in a pack", |bench| {
        bench.iter(|| {
            write(
                |db, set, rows| seen::known(db, set, rows).map(|known| drop(black_box(known))),
                packed,
                page,
            )
        });
    });
    group.finish();
}

criterion_group!(benches, keying, packing);
criterion_main!(benches);
