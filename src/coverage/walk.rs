//! Reading one interval page by page until it is proven, or until it is plain why it cannot be.
//!
//! Nothing relies on the order of rows: rows may shift between requests, ties may be shuffled, the total
//! may move. A walk closes when the distinct rows seen *in requests since the total last changed* equal
//! the total. Without totals an empty page ends a pass, or the last page again where it was not full, and two equal
//! passes close.

use crate::model::RowIds;
use std::collections::{HashMap, HashSet};

/// A row's identity in a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowId {
    /// Of a row with the vendor's id.
    Vendor(u128),
    /// Of a row without one: the hash of what never changes in it. Several may be equal.
    Content([u8; 16]),
}

/// What to do after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this page.
    Page(u32),
    /// Every listed row was seen.
    Closed,
    /// More rows than can be walked, or a listing that will not hold still: take a smaller interval.
    /// `parts` says into how many, when the total tells.
    Smaller { parts: i64, why: Why },
    /// Walks find nothing new and the total still differs.
    Unproven,
}

/// Why an interval cannot be walked as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    DepthLimit,
    TotalMoves,
    PageRepeats,
    StopsAfterFullPage,
    ListsMoreThanItCounts,
    NeverStill,
    DeepPageRefused,
    TooMuchToHold,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Why::DepthLimit => "more rows than the portal lists at once",
            Why::TotalMoves => "the total keeps changing",
            Why::PageRepeats => "the portal repeats a page",
            Why::StopsAfterFullPage => "the portal stops after a full page",
            Why::ListsMoreThanItCounts => "the portal lists more rows than it counts",
            Why::NeverStill => "the listing does not hold still",
            Why::DeepPageRefused => "a deep page is refused",
            Why::TooMuchToHold => "too many rows without id to hold at once",
        }
    }
}

/// Changes of the total after which an interval is taken smaller.
const CHANGES: u32 = 3;
/// Passes that found nothing new after which an interval stays unproven.
const BARREN_PASSES: u32 = 3;
/// Passes that must show the same, row for row, before equal rows on several pages are believed: a portal
/// that shuffles them may do so by chance.
const AGREEING_PASSES: u32 = 8;
/// Passes altogether. Ties shuffled at each request need several: each pass of a listing of `n` pages
/// misses a row with a probability below `1 - 1/n`.
const PASSES: u32 = 24;

/// One walk over one interval.
#[derive(Debug)]
pub struct Walk {
    /// Rows asked for on a page.
    size: u32,
    /// The most that may be asked for.
    largest: u32,
    depth: u64,
    total: Option<u64>,
    changes: u32,
    page: u32,
    /// Vendor rows seen since the total last changed.
    since: RowIds,
    /// Most copies of each row without id on any one page since then: so many there are for sure, since
    /// a page is one state of the listing.
    copies: HashMap<[u8; 16], u32>,
    /// A pass since then showed more rows than the total, if equal ones on two pages are two. Then it takes a pass
    /// that shows as many as the total to tell whether one came twice or the total leaves one out.
    overfull: bool,
    /// Every vendor row seen.
    ever: RowIds,
    pass: Pass,
    /// The last pass that stood still from its first to its last page.
    former: Option<Pass>,
    /// Passes in a row that showed the same as `former`, itself included.
    agreeing: u32,
    passes: u32,
    barren: u32,
    last_page: Vec<RowId>,
    /// Rows on a page that was not the last although it held fewer than asked.
    clamp: Option<usize>,
    /// Rows of the largest page that this portal was ever seen to list.
    fullest: u64,
}

/// What one run over all pages saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pass {
    vendor: RowIds,
    content: HashMap<[u8; 16], u32>,
    /// Most copies of each row without id on any one page.
    sure: HashMap<[u8; 16], u32>,
    /// All of it, as listed.
    order: Vec<RowId>,
    rows: u64,
    found_new: bool,
    /// The total changed, or a page was passed over, so the pass shows no single state of the listing.
    moved: bool,
}

impl Pass {
    /// Whether no row can have come twice, taking the place of another.
    fn repeats_nothing(&self) -> bool {
        self.vendor.len() as u64 + sum(&self.sure) == self.rows
    }

    fn shows_the_same_as(&self, other: &Pass) -> bool {
        // Rows that came twice for others may do so again, but hardly at the same places.
        let counts_hold = self.repeats_nothing() || self.order == other.order;
        self.vendor == other.vendor && self.content == other.content && counts_hold
    }
}

fn sum(copies: &HashMap<[u8; 16], u32>) -> u64 {
    copies.values().map(|count| u64::from(*count)).sum()
}

impl Walk {
    /// `size`: rows a page. `depth`: rows beyond which the portal lists nothing.
    pub fn new(size: u32, depth: u64) -> Self {
        Self {
            size,
            largest: size,
            depth,
            total: None,
            changes: 0,
            page: 1,
            since: RowIds::default(),
            copies: HashMap::new(),
            overfull: false,
            ever: RowIds::default(),
            pass: Pass::default(),
            former: None,
            agreeing: 0,
            passes: 0,
            barren: 0,
            last_page: Vec::new(),
            clamp: None,
            fullest: 0,
        }
    }

    /// The same, knowing that the portal has listed so many rows on one page: it does not clamp pages to fewer.
    pub fn knowing(self, fullest: u64) -> Self {
        Self { fullest, ..self }
    }

    /// Rows to ask for on the next page. The same in a pass; where equal rows without id lie on both sides
    /// of the end of a page, the next pass puts its ends elsewhere.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The portal's last total.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Rows read in the pass at hand.
    pub fn rows(&self) -> u64 {
        self.pass.rows
    }

    /// Every vendor row seen since the total last changed.
    pub fn listed(&self) -> &RowIds {
        &self.since
    }

    /// How many copies of each row without id are listed for sure.
    pub fn copies(&self) -> &HashMap<[u8; 16], u32> {
        &self.copies
    }

    /// Distinct rows seen, copies counted.
    pub fn held(&self) -> u64 {
        self.since.len() as u64 + sum(&self.copies)
    }

    /// Takes in one page, `rows` in the portal's order, and says what comes next. Rows that could not
    /// be decoded are among them, as copies of their bytes: they are listed, too.
    pub fn page(&mut self, rows: &[RowId], total: Option<u64>) -> Next {
        self.take_page(rows, total, u32::MAX)
    }

    /// Takes in a page that was read in several requests: it shows no single state of the listing, so of
    /// equal rows only one is sure.
    pub fn page_in_pieces(&mut self, rows: &[RowId], total: Option<u64>) -> Next {
        self.take_page(rows, total, 1)
    }

    fn take_page(&mut self, rows: &[RowId], total: Option<u64>, sure_copies: u32) -> Next {
        self.take_total(total);
        if self.shows_the_last_page_again(rows) {
            return self.end_pass(false);
        }
        let repeated =
            self.page > 1 && !rows.is_empty() && (rows == self.last_page || self.brings_nothing(rows));
        let after_full_page = self.page > 1 && self.full(self.last_page.len());
        self.take_rows(rows, sure_copies);
        if let Some(total) = self.total.filter(|total| *total >= self.depth) {
            let parts = total.div_ceil((self.depth * 7 / 10).max(1)).clamp(2, 64);
            let parts = i64::try_from(parts).expect("clamped to 64");
            return Next::Smaller { parts, why: Why::DepthLimit };
        }
        if self.changes >= CHANGES {
            return Next::Smaller { parts: 2, why: Why::TotalMoves };
        }
        if repeated {
            return Next::Smaller { parts: 2, why: Why::PageRepeats };
        }
        let exceeds = |rows: u64| total.is_some_and(|total| rows > total) && !self.pass.moved;
        // A listing that goes on after its total is capped; one that ends a little later counts badly.
        if exceeds(self.pass.rows) && self.full(rows.len()) {
            return Next::Smaller { parts: 2, why: Why::ListsMoreThanItCounts };
        }
        let capped = self.looks_capped(rows.len());
        // A total that came with an earlier page says nothing of rows that came after it.
        if !capped && total.is_some() && self.complete() {
            return Next::Closed;
        }
        if capped && self.pass.rows.saturating_add(self.size.into()) > self.depth {
            return Next::Smaller { parts: 2, why: Why::DepthLimit };
        }
        // A listing without a depth, asked as a whole, cannot be taken smaller: where it counts nothing it may well end
        // with a full page, and two passes must agree on that.
        let has_depth = self.depth < u64::MAX;
        if rows.is_empty() && after_full_page && self.total.map_or(has_depth, |total| total > self.pass.rows)
        {
            return Next::Smaller { parts: 2, why: Why::StopsAfterFullPage };
        }
        if rows.is_empty() || (self.total.is_some_and(|total| self.pass.rows >= total) && !capped) {
            return self.end_pass(total.is_some());
        }
        if self.pass.rows >= self.depth {
            return Next::Smaller { parts: 2, why: Why::DepthLimit };
        }
        self.page += 1;
        Next::Page(self.page)
    }

    /// Whether a portal that counts nothing shows the page before once more, and that page was not full: there are
    /// no more rows, whatever it makes of page numbers. A page as large as any that was seen may be clamped.
    fn shows_the_last_page_again(&self, rows: &[RowId]) -> bool {
        let small = rows.len() < self.size as usize && (rows.len() as u64) < self.fullest;
        let same = rows == self.last_page || {
            let all = |page: &[RowId]| page.iter().copied().collect::<HashSet<_>>();
            // Equal rows without an id can be told apart by nothing but their order.
            rows.len() == self.last_page.len()
                && all(rows).len() == rows.len()
                && all(rows) == all(&self.last_page)
        };
        self.total.is_none() && self.page > 1 && !rows.is_empty() && small && same
    }

    /// Whether a listing without totals shows only rows again: it might never end.
    fn brings_nothing(&self, rows: &[RowId]) -> bool {
        let again = |row: &RowId| matches!(row, RowId::Vendor(id) if self.pass.vendor.contains(id));
        self.total.is_none() && rows.iter().all(again)
    }

    /// Whether a page of so many rows was as full as pages get: as asked, or as the portal clamps.
    fn full(&self, rows: usize) -> bool {
        rows == self.size as usize || self.clamp == Some(rows)
    }

    fn take_total(&mut self, total: Option<u64>) {
        let Some(total) = total else { return };
        match self.total {
            Some(before) if before != total => {
                self.changes += 1;
                self.since.clear();
                self.copies.clear();
                self.overfull = false;
                self.pass.moved = self.page > 1;
                self.former = None;
                self.agreeing = 0;
            }
            // Pages read before the first total prove nothing about it.
            None if self.page > 1 => {
                self.since.clear();
                self.copies.clear();
                self.pass.moved = true;
            }
            _ => {}
        }
        self.total = Some(total);
    }

    fn take_rows(&mut self, rows: &[RowId], sure_copies: u32) {
        let mut on_this_page: HashMap<[u8; 16], u32> = HashMap::new();
        for row in rows {
            self.pass.rows += 1;
            match *row {
                RowId::Vendor(id) => {
                    self.since.insert(id);
                    self.pass.found_new |= self.ever.insert(id);
                    self.pass.vendor.insert(id);
                }
                RowId::Content(hash) => {
                    *self.pass.content.entry(hash).or_default() += 1;
                    *on_this_page.entry(hash).or_default() += 1;
                }
            }
        }
        for (hash, count) in on_this_page {
            let count = count.min(sure_copies);
            let sure = self.pass.sure.entry(hash).or_default();
            *sure = count.max(*sure);
            let sure = self.copies.entry(hash).or_default();
            self.pass.found_new |= count > *sure;
            *sure = count.max(*sure);
        }
        self.pass.order.extend_from_slice(rows);
        let before = self.last_page.len();
        if self.page > 1 && !rows.is_empty() && before < self.size as usize {
            self.clamp = Some(before);
        }
        self.last_page = rows.to_vec();
    }

    /// Whether the rows seen are all that is listed.
    fn complete(&mut self) -> bool {
        let Some(total) = self.total else { return false };
        let shown = self.pass.vendor.len() as u64 + sum(&self.pass.content);
        self.overfull |= shown > total && !self.pass.moved;
        if self.held() == total && !self.overfull {
            return true;
        }
        // Rows of one pass that stood still are all there are, however many were seen before.
        let still = !self.pass.moved && self.pass.rows == total;
        let believed = still
            && (self.pass.repeats_nothing()
                || (self.agreeing + 1 >= AGREEING_PASSES && self.same_as_former(&self.pass)));
        if believed {
            let pass = std::mem::take(&mut self.pass);
            self.believe(pass);
        }
        believed
    }

    fn same_as_former(&self, pass: &Pass) -> bool {
        self.former.as_ref().is_some_and(|former| former.shows_the_same_as(pass))
    }

    /// What one pass showed is what is listed.
    fn believe(&mut self, pass: Pass) {
        self.since.clone_from(&pass.vendor);
        self.copies.clone_from(&pass.content);
        self.pass = pass;
    }

    /// A total that ends exactly with a full page may be a cap: one more page tells.
    fn looks_capped(&self, on_this_page: usize) -> bool {
        on_this_page > 0 && self.full(on_this_page) && self.total == Some(self.pass.rows)
    }

    /// The pass is over and did not close the walk. `counted`: its last page carried a total.
    fn end_pass(&mut self, counted: bool) -> Next {
        self.passes += 1;
        let pass = std::mem::take(&mut self.pass);
        let same = self.same_as_former(&pass);
        self.agreeing = if same { self.agreeing + 1 } else { 1 };
        let plain = pass.repeats_nothing() || self.agreeing >= AGREEING_PASSES;
        if self.total.is_none() && same && plain {
            self.believe(pass);
            return Next::Closed;
        }
        let undecided = !pass.content.is_empty() && !plain;
        self.barren = if pass.found_new || !counted || undecided { 0 } else { self.barren + 1 };
        if self.total.is_some() && self.barren + 1 >= BARREN_PASSES && !pass.moved {
            if plain {
                self.copies.clone_from(&pass.content);
            }
            self.pass = pass;
            return Next::Unproven;
        }
        if self.passes >= PASSES {
            self.pass = pass;
            return Next::Smaller { parts: 2, why: Why::NeverStill };
        }
        if !pass.repeats_nothing() && !pass.content.is_empty() {
            self.size = self.next_size();
        }
        self.former = (!pass.moved).then_some(pass);
        self.page = 1;
        self.last_page.clear();
        Next::Page(1)
    }

    /// A page size with other ends of pages: a little less each time, down to half. Not one row: pages of
    /// equal rows one by one look like a page repeated.
    fn next_size(&self) -> u32 {
        let largest =
            self.largest.min(self.clamp.map_or(u32::MAX, |rows| u32::try_from(rows).unwrap_or(u32::MAX)));
        (largest - (largest * (self.passes % 7)).div_ceil(13)).max(2)
    }
}
