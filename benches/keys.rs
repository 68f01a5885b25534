//! What one row costs where it is not copied but read: keying it, naming it, and knowing it again when its hour
//! is packed.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lockstep::clock::Clock;
use lockstep::collect::ledger::{Packing, StreamLedger};
use lockstep::collect::window::{Commit, Ledger, RowCommit};
use lockstep::model::{Kind, SECOND, folded, uid};
use lockstep::record::enrichment::{Computer, Facts, Sighting, UserOrigin, is_person};
use lockstep::simulator::world::{Source as Audit, World, WorldOptions};
use lockstep::source::Source;
use lockstep::sources::unified_audit::UnifiedAudit;
use lockstep::store::WriterDb;
use lockstep::store::devices::{self, Told};
use lockstep::store::seen::{self, ListedBy, SeenRow};
use lockstep::store::streams::{self, StreamKey};
use lockstep::store::{Store, StoreError, connections};
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
    let write = |job: fn(&WriterDb, i64, &[SeenRow]) -> Result<(), StoreError>, set, rows| {
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
        write(|db, set, rows| seen::insert(db, set, rows, ListedBy::TheSet).map(drop), sets, rows);
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

/// A stream in memory whose computers were listed, with a user each or without.
fn stream(runtime: &Runtime, rows: &[RowCommit], user: Option<&'static str>) -> StreamLedger {
    let store = Store::open_in_memory(Clock::system()).expect("memory is to be had");
    let computers: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row.organization.clone(), row.sighting.as_ref()?.computer.clone())))
        .collect();
    let open = move |db: &WriterDb| {
        let site = connections::register(db, "acme")?;
        for (organization, computer) in computers {
            let organization = connections::organization(db, site.id, &organization, None, 1)?;
            let name = Some("Workstations".to_owned());
            let facts = Facts { name: name.clone(), os: name.clone(), group: name, ..Facts::default() };
            let (user, facts) = (user.map(str::to_owned), Some(Box::new(facts)));
            let sighting = Arc::new(Sighting { computer, user, facts });
            devices::note_listed(db, &Told { organization, at: 1, sighting }, UserOrigin::Computer, 1)?;
        }
        let key = StreamKey { connection: site.id, source: "unified_audit", scope: "tree", fingerprint: "" };
        Ok((site, streams::open(db, &key)?))
    };
    let opened = runtime.block_on(store.write(open));
    let (site, stream) = opened.expect("nothing is wrong with a state in memory");
    StreamLedger {
        store,
        clock: Clock::system(),
        connection: site.id,
        epoch: site.epoch,
        source: "unified_audit",
        kind: Kind::Event,
        stream: stream.id,
        set: stream.set,
        organization: None,
        packing: Packing::default(),
        also: None,
    }
}

fn committed(row: &str) -> RowCommit {
    let key = UnifiedAudit.key(row, 1).expect("the simulator writes rows");
    let computer = key.computer.expect("with a computer");
    let user = key.user.filter(|name| is_person(name)).map(|name| name.into_owned());
    let computer = Computer::Id(folded(&computer).into_owned());
    RowCommit {
        uid: Uuid::new_v5(&Uuid::NAMESPACE_OID, row.as_bytes()),
        organization: key.organization,
        organization_name: None,
        vendor_id: key.vendor_id.map(|id| id.into_owned()),
        time: key.at,
        at: key.at.expect("with a time"),
        other: key.imported,
        enter: true,
        owed: false,
        sighting: Some(Arc::new(Sighting { computer, user, facts: None })),
        also: None,
        body: Bytes::copy_from_slice(row.as_bytes()),
    }
}

/// Pages on their way into a state in memory, which never waits for a disk: each a second after the one before.
fn storing(c: &mut Criterion) {
    let runtime = Runtime::new().expect("threads are to be had");
    let rows: Vec<RowCommit> = rows().iter().map(|row| committed(row)).collect();
    let mut group = c.benchmark_group("page");
    group.throughput(Throughput::Elements(rows.len() as u64));
    for (label, told, user) in [
        ("stored alone", false, None),
        ("stored with devices and users seen", true, None),
        ("stored with devices and users listed", true, Some("ACME\\a.muster")),
    ] {
        let ledger = stream(&runtime, &rows, user);
        let mut number = 0_i64;
        let mut page = || {
            number += 1;
            let mut rows = rows.clone();
            for row in &mut rows {
                row.uid = Uuid::new_v5(&row.uid, &number.to_be_bytes());
                row.time = row.time.map(|time| time + number * SECOND);
                row.at += number * SECOND;
                row.sighting = row.sighting.take().filter(|_| told);
            }
            let newest = rows.iter().map(|row| row.at).max().expect("there are rows");
            Commit { rows, collected: newest + 60 * SECOND, ..Commit::default() }
        };
        group.bench_function(label, |bench| {
            let commit = |page| runtime.block_on(ledger.commit(page)).expect("nothing is wrong in memory");
            bench.iter_batched(&mut page, commit, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, keying, storing, packing);
criterion_main!(benches);
