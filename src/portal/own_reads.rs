//! Which rows of the system audit our own requests wrote.
//!
//! Each read of the API adds a `Read` row (contract section 4.1), but nobody tells us our user's name or our
//! address as the portal sees it. So what was sent is compared with what is listed: the one reader whose rows fall
//! on our requests is us. Its rows are the feed's heartbeat; more of them than were sent, or the same user at
//! another address, is somebody else with the same token.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::model::{Micros, SECOND, Seconds};

/// Who reads, as the portal writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reader {
    pub user: String,
    pub address: String,
}

/// What is known of our own reads. Counts are of the last hour whose rows are settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnReadsReport {
    /// We, as the portal writes us.
    pub reader: Reader,
    /// Requests sent.
    pub sent: u64,
    /// Rows of this reader.
    pub seen: u64,
    /// Rows of the same user that none of our requests wrote, by address.
    pub elsewhere: Vec<(String, u64)>,
}

/// How long requests and rows are remembered, in seconds.
const MEMORY: Seconds = 2 * 3_600;
/// What is compared, in seconds.
const COMPARED: Seconds = 3_600;
/// Rows younger than this may not be listed yet, in seconds.
const SETTLED: Seconds = 900;
/// How far a row's time may lie from its request's, nearest first, in seconds.
const NEAR: [Seconds; 9] = [0, 1, -1, 2, -2, 3, -3, 4, -4];
/// Rows that must fall on requests before a reader is believed to be us.
const ENOUGH: u64 = 20;
/// Of the rows of a reader that is us, at most one in so many falls on none of our requests.
const STRAY: u64 = 10;
/// Rows that are remembered, of all readers.
const MOST_ROWS: usize = 50_000;

/// What a credential sent, and who was seen to read.
#[derive(Debug, Default)]
pub(crate) struct OwnReads(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    /// Rows from before this second are not counted: what was sent then is not known.
    since: Option<Seconds>,
    sent: BTreeMap<Seconds, u64>,
    rows: BTreeSet<(Seconds, u128)>,
    readers: HashMap<Reader, Tally>,
    us: Option<Reader>,
}

/// The rows of one reader, by second.
#[derive(Debug, Default)]
struct Tally {
    /// Requests that a row was found for.
    matched: BTreeMap<Seconds, u64>,
    /// Rows that no request is left for.
    stray: BTreeMap<Seconds, u64>,
    /// The sums of both.
    sums: (u64, u64),
}

impl OwnReads {
    /// A request goes out now, on the portal's time.
    pub(crate) fn sent(&self, now: Micros) {
        let mut log = self.log();
        let second = now.div_euclid(SECOND);
        log.since.get_or_insert(second);
        *log.sent.entry(second).or_default() += 1;
        log.forget_before(second - MEMORY);
    }

    /// A `Read` row is listed, perhaps again; `row` is its id.
    pub(crate) fn seen(&self, reader: Reader, at: Micros, row: u128) {
        let mut log = self.log();
        let second = at.div_euclid(SECOND);
        let known = log.since.is_some_and(|since| second >= since + NEAR.len() as Seconds);
        if !known || !log.rows.insert((second, row)) {
            return;
        }
        let Log { sent, readers, .. } = &mut *log;
        let tally = readers.entry(reader.clone()).or_default();
        let free = |request: &Seconds| {
            sent.get(request).copied().unwrap_or(0) > tally.matched.get(request).copied().unwrap_or(0)
        };
        match NEAR.iter().map(|near| second - near).find(free) {
            Some(request) => {
                *tally.matched.entry(request).or_default() += 1;
                tally.sums.0 += 1;
            }
            None => {
                *tally.stray.entry(second).or_default() += 1;
                tally.sums.1 += 1;
            }
        }
        log.recognise();
        if log.rows.len() > MOST_ROWS
            && let Some((oldest, _)) = log.rows.first().copied()
        {
            log.forget_before(oldest + 60);
        }
    }

    /// Whether a reader is known to be us.
    pub(crate) fn is_us(&self, reader: &Reader) -> bool {
        self.log().us.as_ref() == Some(reader)
    }

    /// What is known, once it is known who we are.
    pub(crate) fn report(&self, now: Micros) -> Option<OwnReadsReport> {
        let log = self.log();
        let reader = log.us.clone()?;
        let until = now.div_euclid(SECOND) - SETTLED;
        let from = (until - COMPARED).max(log.since?);
        let within = |counts: &BTreeMap<Seconds, u64>| {
            counts.range(from..until.max(from)).map(|(_, count)| count).sum::<u64>()
        };
        let sent = within(&log.sent);
        let ours =
            log.readers.get(&reader).map_or((0, 0), |tally| (within(&tally.matched), within(&tally.stray)));
        let mut elsewhere: Vec<(String, u64)> = log
            .readers
            .iter()
            .filter(|(other, _)| other.user == reader.user && other.address != reader.address)
            .map(|(other, tally)| (other.address.clone(), within(&tally.matched) + within(&tally.stray)))
            .filter(|(_, rows)| *rows > 0)
            .collect();
        // A few fall beside a request: a clock that is set, an answer that took long.
        if ours.1 > (sent / STRAY).max(5) {
            elsewhere.push((reader.address.clone(), ours.1));
        }
        elsewhere.sort();
        Some(OwnReadsReport { reader, sent, seen: ours.0 + ours.1, elsewhere })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().expect("no holder of the log panics")
    }
}

impl Log {
    /// Who is us: the one that fits, as long as nobody else is on the way to it.
    fn recognise(&mut self) {
        let mut likely = self.readers.iter().filter(|(_, tally)| tally.fits(ENOUGH / 2));
        match (likely.next(), likely.next()) {
            (Some((reader, tally)), None) if tally.fits(ENOUGH) => self.us = Some(reader.clone()),
            (Some(_), Some(_)) => self.us = None,
            _ => {}
        }
    }

    fn forget_before(&mut self, second: Seconds) {
        if self.sent.first_key_value().is_none_or(|(first, _)| *first >= second)
            && self.rows.len() <= MOST_ROWS
        {
            return;
        }
        self.since = self.since.map(|since| since.max(second));
        self.sent = self.sent.split_off(&second);
        self.rows = self.rows.split_off(&(second, 0));
        for tally in self.readers.values_mut() {
            tally.matched = tally.matched.split_off(&second);
            tally.stray = tally.stray.split_off(&second);
            tally.sums = (tally.matched.values().sum(), tally.stray.values().sum());
        }
        self.readers.retain(|_, tally| !tally.matched.is_empty() || !tally.stray.is_empty());
    }
}

impl Tally {
    fn fits(&self, enough: u64) -> bool {
        let (matched, stray) = self.sums;
        matched >= enough && stray * STRAY <= matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Seconds = 1_800_000_000;

    fn reader(user: &str, address: &str) -> Reader {
        Reader { user: user.to_owned(), address: address.to_owned() }
    }

    /// A request every 20 seconds for so long, each written down a second later by the collector's user.
    fn polling(reads: &OwnReads, from: Seconds, until: Seconds) {
        for second in (from..until).step_by(20) {
            reads.sent((BEGIN + second) * SECOND);
            reads.seen(
                reader("collector", "192.0.2.1"),
                (BEGIN + second + 1) * SECOND,
                second.unsigned_abs().into(),
            );
        }
    }

    #[test]
    fn the_one_reader_whose_rows_fall_on_our_requests_is_us() {
        let reads = OwnReads::default();
        polling(&reads, 0, 300);
        assert!(!reads.is_us(&reader("collector", "192.0.2.1")), "15 rows may be chance");
        polling(&reads, 300, 600);
        assert!(reads.is_us(&reader("collector", "192.0.2.1")));
        assert!(!reads.is_us(&reader("admin", "192.0.2.1")));
    }

    #[test]
    fn an_administrator_who_reads_at_any_time_is_not_us() {
        let reads = OwnReads::default();
        for second in 0..1_000 {
            if second % 20 == 0 {
                reads.sent((BEGIN + second) * SECOND);
            }
            if second % 7 == 0 {
                reads.seen(
                    reader("admin", "192.0.2.9"),
                    (BEGIN + second) * SECOND,
                    second.unsigned_abs().into(),
                );
            }
        }
        assert!(!reads.is_us(&reader("admin", "192.0.2.9")));
    }

    #[test]
    fn two_readers_that_both_fit_leave_it_open() {
        let reads = OwnReads::default();
        for second in (0..2_000).step_by(20) {
            reads.sent((BEGIN + second) * SECOND);
            for (place, user) in (0u128..).zip(["a", "b"]) {
                let row = u128::try_from(second).unwrap() * 2 + place;
                reads.seen(reader(user, "192.0.2.1"), (BEGIN + second) * SECOND, row);
            }
        }
        assert!(!reads.is_us(&reader("a", "192.0.2.1")) && !reads.is_us(&reader("b", "192.0.2.1")));
    }

    #[test]
    fn a_row_that_is_listed_again_counts_once() {
        let reads = OwnReads::default();
        reads.sent(BEGIN * SECOND);
        for _ in 0..50 {
            reads.sent((BEGIN + 30) * SECOND);
            reads.seen(reader("collector", "192.0.2.1"), (BEGIN + 30) * SECOND, 7);
        }
        assert!(!reads.is_us(&reader("collector", "192.0.2.1")));
    }

    #[test]
    fn more_reads_than_were_sent_and_reads_from_elsewhere_are_told() {
        let reads = OwnReads::default();
        polling(&reads, 0, 5_000);
        let now = (BEGIN + 5_000) * SECOND;
        let quiet = reads.report(now).unwrap();
        assert_eq!((quiet.seen, quiet.elsewhere.len()), (quiet.sent, 0));
        for second in (1_000..4_000).step_by(100) {
            let row = 1_000_000 + u128::try_from(second).unwrap();
            reads.seen(reader("collector", "192.0.2.1"), (BEGIN + second + 10) * SECOND, row);
        }
        reads.seen(reader("collector", "198.51.100.7"), (BEGIN + 3_000) * SECOND, 2_000_000);
        let used = reads.report(now).unwrap();
        assert_eq!(
            used.elsewhere.iter().map(|(address, _)| address.as_str()).collect::<Vec<_>>(),
            ["192.0.2.1", "198.51.100.7"]
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let reads = OwnReads::default();
        reads.sent(BEGIN * SECOND);
        for row in 0..200_000 {
            let at = (BEGIN + 20 + row / 50) * SECOND;
            reads.seen(reader("busy", "192.0.2.1"), at, row.unsigned_abs().into());
        }
        assert!(reads.log().rows.len() <= MOST_ROWS + 1);
        polling(&reads, 5_000, 60_000);
        assert!(reads.log().sent.len() <= 2 * 3_600 / 20 + 1);
    }
}
