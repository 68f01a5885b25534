//! What a tenant of many rows a day costs: the real collecting code over a real state on disk, asking a portal
//! that makes up its rows while it is asked. No HTTP, no sink.
//!
//! `make month` runs it; `DAYS` and `ROWS` (a day) change its size. It prints a line for each day.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;

use super::*;
use crate::collect::window::{WindowSettings, WindowStream};
use crate::collect::{CollectError, Listed, ListedRow, Listing};
use crate::coverage::walk::RowId;
use crate::model::uid;
use crate::simulator::answer::{self, Content, Moment, Row};
use crate::simulator::dialect::Dialect;
use crate::simulator::dice::mix;
use crate::source::{Filter, Query, Scope};

/// When the tenant began.
const BEGIN: Seconds = 1_800_000_000;
const RETENTION: Seconds = 30 * DAY;
const ORGANIZATIONS: u64 = 10;
/// The pace of the portal: five requests a second.
const TICK: Micros = SECOND / 5;
const EVERY: Seconds = 60;

/// Rows at an even rate, each in a slot of its own; one of a hundred comes up to a day late.
#[derive(Clone)]
struct Endless {
    slot: Micros,
    now: Arc<AtomicI64>,
    /// Requests for a count, for the newest quarter of an hour, and for older pages.
    requests: Arc<[AtomicU64; 3]>,
}

impl Endless {
    fn row(&self, number: i64) -> Row {
        let dice = mix(number.cast_unsigned());
        let at = BEGIN * SECOND + number * self.slot + (dice % self.slot.cast_unsigned()).cast_signed();
        let late = (dice >> 20).is_multiple_of(100);
        let seconds = if late { 60 + (dice >> 32) % 86_400 } else { 1 + (dice >> 32) % 60 };
        let imported = at + seconds.cast_signed() * SECOND;
        Row {
            id: Some(number.cast_unsigned()),
            content: Content::Generated(0),
            at,
            imported,
            listed_from: imported,
            deleted_at: None,
            organization: u16::try_from(number.cast_unsigned() % ORGANIZATIONS).unwrap(),
            action: 0,
            table: 1,
            threat: answer::Threat::default(),
        }
    }

    /// The rows of a span that exist and are kept.
    fn rows(&self, (from, to): (Seconds, Seconds)) -> Vec<Row> {
        let now = self.now();
        let from = (from * SECOND).max(BEGIN * SECOND).max(now - RETENTION * SECOND);
        let to = (to * SECOND + 1).min(now);
        let number = |time: Micros| (time - BEGIN * SECOND).div_euclid(self.slot);
        let numbers = number(from)..=number(to.max(from));
        numbers.map(|number| self.row(number)).filter(|row| (from..to).contains(&row.at)).collect()
    }
}

impl Listing for Endless {
    fn now(&self) -> Micros {
        self.now.load(Ordering::Relaxed)
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let now = self.now.fetch_add(TICK, Ordering::Relaxed);
        let span = query.span.unwrap();
        let kind = match query.size {
            1 => 0,
            _ if span.1 * SECOND > now - 900 * SECOND => 1,
            _ => 2,
        };
        self.requests[kind].fetch_add(1, Ordering::Relaxed);
        let rows = self.rows(span);
        let asked = answer::Query {
            page: query.page.into(),
            size: query.size.into(),
            ..answer::Query::window(span.0 * SECOND, span.1 * SECOND)
        };
        let moment = Moment { now, ..Moment::default() };
        let answer = answer::answer(&rows, &asked, &Dialect::default(), &moment).unwrap();
        let listed = |index: &usize| {
            let row = &rows[*index];
            let (organization, id) = (format!("org-{}", row.organization), row.id.unwrap().to_string());
            ListedRow {
                id: RowId::Vendor(uid(&organization, "unified_audit", &id, "event", "0").as_u128()),
                organization: OrganizationId::new(&organization),
                organization_name: None,
                vendor_id: Some(id),
                at: Some(row.at),
                imported: Some(row.imported),
                own: false,
                sighting: None,
                rated: false,
                shape: 0,
                body: Bytes::from_static(b"{}"),
            }
        };
        let rows = answer.rows.iter().map(listed).collect();
        Ok(Listed { rows, total: answer.total, ..Listed::default() })
    }
}

fn settings() -> WindowSettings {
    WindowSettings {
        source: "unified_audit",
        kind: Kind::Event,
        scope: Scope::Tree(OrganizationId::new("org-0")),
        part: 1,
        filter: Filter::default(),
        splits: &[],
        page_size: 500,
        settle: 120,
        backfill: 60,
        retention: RETENTION,
        live_span: 900,
        has_imported: true,
        also: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "how make hands a number to a test")]
fn setting(name: &str, otherwise: i64) -> i64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// Peak memory in MiB and processor seconds of this process so far.
fn consumed() -> (u64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let times: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse().unwrap())
        .collect();
    (peak / 1_024, times.iter().sum::<f64>() / 100.0)
}

/// Rows not packed, rows packed, bytes of the packs with their indices, and of the state that are in use.
fn sizes(db: &Connection) -> Result<[i64; 4], StoreError> {
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let packs = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'seen_pack%' AND aggregate = TRUE";
    Ok([
        number("SELECT count(*) FROM seen")?.unwrap_or(0),
        number("SELECT sum(rows) FROM seen_pack")?.unwrap_or(0),
        number(packs)?.unwrap_or(0),
        number(
            "SELECT (page_count - freelist_count) * page_size
                FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        )?
        .unwrap_or(0),
    ])
}

#[tokio::test]
#[ignore = "takes an hour: make month"]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it")]
async fn a_tenant_of_a_million_rows_a_day() {
    let (days, rate) = (setting("DAYS", 30), setting("ROWS", 1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Clock::system()).unwrap();
    let ledger = stream(&store, ("acme", "")).await;
    let portal = Endless {
        slot: DAY * SECOND / rate,
        now: Arc::new(AtomicI64::new((BEGIN + 300) * SECOND)),
        requests: Arc::default(),
    };
    let mut stream =
        WindowStream::new(settings(), portal.clone(), ledger.clone(), Vec::new(), Notes::default());
    println!(
        "day | requests: counts live pages older pages | rows: young packed | MiB: state file | bytes a packed row | CPU s | peak RSS MiB"
    );
    for day in 1..=days {
        let before: Vec<u64> = portal.requests.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let (_, cpu_before) = consumed();
        while portal.now() < (BEGIN + day * DAY) * SECOND {
            let due = portal.now() + EVERY * SECOND;
            stream.live().await.unwrap();
            while stream.background().await.unwrap() {}
            portal.now.fetch_max(due, Ordering::Relaxed);
            if stream.requests % 50 == 0 {
                ledger.store.write(|db| Ok(db.execute("DELETE FROM outbox", [])?)).await.unwrap();
            }
        }
        ledger.store.write(|db| Ok(db.execute("DELETE FROM outbox", [])?)).await.unwrap();
        let (peak, cpu) = consumed();
        let [young, packed, bytes, state] = ledger.store.read(sizes).await.unwrap();
        let file = std::fs::metadata(ledger.store.path()).unwrap().len();
        let asked: Vec<u64> = portal
            .requests
            .iter()
            .zip(before)
            .map(|(count, before)| count.load(Ordering::Relaxed) - before)
            .collect();
        println!(
            "{day:>3} | {:>6} {:>6} {:>6} | {young:>8} {packed:>9} | {:>5} {:>5} | {:>5.2} | {:>6.1} | {peak}",
            asked[0],
            asked[1],
            asked[2],
            state >> 20,
            file >> 20,
            if packed > 0 { bytes as f64 / packed as f64 } else { 0.0 },
            cpu - cpu_before,
        );
    }
    let listed = portal.rows((BEGIN, stream.edge() - DAY)).len() as u64;
    let from = portal.now() - RETENTION * SECOND;
    let held = ledger.held(from.max(BEGIN * SECOND), (stream.edge() - DAY) * SECOND).await.unwrap();
    println!("rows listed up to a day ago: {listed}, held: {held}");
    assert!(held.abs_diff(listed) < 2_000, "{held} held, {listed} listed");
}
