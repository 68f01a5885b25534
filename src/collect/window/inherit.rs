//! A stream that goes on where others ended that listed the same rows: one organization after the tree, the tree after
//! its organizations.
//!
//! Both are configured at times of the same site, and the rows that one has seen are known to the other. What the
//! earlier ones proved is proven, what they owed is owed, and all of it is counted once more soon: what came late in
//! between, or what the one way of asking shows and the other does not, is found by that.

use std::collections::{BTreeMap, BTreeSet};

use super::{DAY, Notes, recheck};
use crate::coverage::{Coverage, Interval, State};
use crate::model::{Micros, OrganizationId, SECOND, Seconds};
use crate::source::Scope;

/// What an earlier stream of the same rows came to.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The organization that it asked alone; absent for a tree.
    pub organization: Option<OrganizationId>,
    pub notes: Notes,
    pub intervals: Vec<Interval>,
}

/// A stream that has not begun, as far as an heir needs to know.
#[derive(Clone, Debug)]
pub struct Heir<'a> {
    pub scope: &'a Scope,
    /// The organizations of the tree, where all of them are known.
    pub members: Option<&'a BTreeSet<OrganizationId>>,
    /// Where it would begin by itself, and the oldest second that the portal keeps.
    pub start: Seconds,
    pub horizon: Seconds,
    pub edge: Seconds,
}

impl Heir<'_> {
    /// Notes and coverage to begin with; none where nobody came before.
    pub fn inherit(&self, earlier: &[Earlier]) -> Option<(Notes, Vec<Interval>)> {
        match self.scope {
            Scope::Organization(organization) => {
                let tree = earlier.iter().find(|one| one.organization.is_none() && one.has_begun())?;
                Some(after_tree(tree, organization))
            }
            Scope::Tree(_) => {
                let each: Vec<&Earlier> =
                    earlier.iter().filter(|one| one.organization.is_some() && one.has_begun()).collect();
                let asked = |member: &OrganizationId| {
                    each.iter().any(|one| one.organization.as_ref() == Some(member))
                };
                match self.members {
                    _ if each.is_empty() => None,
                    Some(members) if members.iter().all(asked) => Some(after_all(&each)),
                    _ => Some(self.after_some(&each)),
                }
            }
        }
    }

    /// Of a tree of which only a part was collected nothing is proven. But nothing of that part may be missed: it is
    /// walked from its first gap on, and of what lies before enters what came since it was last looked over.
    fn after_some(&self, earlier: &[&Earlier]) -> (Notes, Vec<Interval>) {
        let gap = |one: &&Earlier| {
            let coverage = Coverage::from_intervals(one.intervals.iter().cloned());
            coverage.gaps(one.notes.start.unwrap_or(self.edge), self.edge).first().map(|gap| gap.0)
        };
        let first_gap = earlier.iter().filter_map(gap).min();
        let start = first_gap.map_or(self.start, |gap| gap.min(self.start)).max(self.horizon);
        let looked_over =
            |one: &&Earlier| one.notes.first_contact.max((one.notes.scrubbed - DAY).max(0) * SECOND);
        let first_contact = earlier.iter().map(looked_over).min().unwrap_or_default();
        let before = Interval { listed: None, ..blank(self.horizon, start, State::Baseline, 0) };
        let notes = Notes { start: Some(start), first_contact, ..begun(earlier) };
        (notes, Some(before).filter(|before| before.from < before.to).into_iter().collect())
    }
}

impl Earlier {
    fn has_begun(&self) -> bool {
        self.notes.start.is_some()
    }
}

/// One organization of a tree.
fn after_tree(tree: &Earlier, organization: &OrganizationId) -> (Notes, Vec<Interval>) {
    // Where it fell silent inside the tree, nothing is proven of it.
    let silent = tree.notes.silent.get(organization).map(|since| since.div_euclid(SECOND));
    let mut coverage = Coverage::default();
    for one in &tree.intervals {
        match one.state {
            // Counts were of the whole tree; that there is nothing holds for each.
            State::Baseline => {
                coverage.set(Interval { listed: one.listed.filter(|rows| *rows == 0), ..one.clone() })
            }
            State::Proven => coverage.set(blank(one.from, one.to, State::Proven, one.checked)),
            State::Expired => coverage.set(one.clone()),
            State::EmptyUnconfirmed | State::StableUnproven | State::Unreachable => {}
        }
    }
    if let Some(since) = silent {
        coverage.forget(since, Seconds::MAX);
    }
    let notes = Notes { start: tree.notes.start, first_contact: tree.notes.first_contact, ..begun(&[tree]) };
    (notes, coverage.intervals().cloned().collect())
}

/// The tree of organizations each of which was asked alone: proven where it is proven of every one.
fn after_all(each: &[&Earlier]) -> (Notes, Vec<Interval>) {
    // How many begin and end where: all, and of the baselines those of nothing.
    let mut turns: BTreeMap<Seconds, [i64; 3]> = BTreeMap::new();
    let intervals = || each.iter().flat_map(|one| &one.intervals);
    for one in intervals() {
        let kinds = [
            one.state == State::Proven,
            one.state == State::Baseline,
            one.state == State::Baseline && one.listed == Some(0),
        ];
        for (place, is_so) in kinds.into_iter().enumerate() {
            turns.entry(one.from).or_default()[place] += i64::from(is_so);
            turns.entry(one.to).or_default()[place] -= i64::from(is_so);
        }
    }
    let checked = intervals().map(|one| one.checked).min().unwrap_or_default();
    let all = i64::try_from(each.len()).unwrap_or(i64::MAX);
    let (mut coverage, mut open) = (Coverage::default(), [0; 3]);
    for ((from, turn), to) in turns.iter().zip(turns.keys().skip(1)) {
        for (open, turn) in open.iter_mut().zip(turn) {
            *open += turn;
        }
        let [proven, baseline, nothing] = open.map(|count| count == all);
        if proven {
            coverage.set(blank(*from, *to, State::Proven, checked));
        } else if baseline {
            let listed = nothing.then_some(0);
            coverage.set(Interval { listed, ..blank(*from, *to, State::Baseline, checked) });
        }
    }
    let notes = Notes {
        start: each.iter().filter_map(|one| one.notes.start).min(),
        first_contact: each.iter().map(|one| one.notes.first_contact).min().unwrap_or_default(),
        ..begun(each)
    };
    (notes, coverage.intervals().cloned().collect())
}

/// One organization that a tree does not show: owed from where the tree begins. Of what lies before enters what came
/// since the portal was first heard.
pub fn beside(tree: &Notes, horizon: Seconds) -> (Notes, Vec<Interval>) {
    let start = tree.start.unwrap_or(horizon).max(horizon);
    let before = blank(horizon, start, State::Baseline, 0);
    let notes = Notes {
        start: Some(start),
        first_contact: tree.first_contact,
        checked: [start; recheck::AGES.len()],
        observed: tree.observed.clone(),
        longest: tree.longest,
        ..Notes::default()
    };
    (notes, Some(before).filter(|before| before.from < before.to).into_iter().collect())
}

/// What is known of the portal, and how far the re-checks came; the scrub is due at once.
fn begun(earlier: &[&Earlier]) -> Notes {
    let mut checked = [Seconds::MAX; recheck::AGES.len()];
    for one in earlier {
        for (checked, other) in checked.iter_mut().zip(one.notes.checked) {
            *checked = (*checked).min(other);
        }
    }
    let busiest = earlier.iter().max_by_key(|one| one.notes.rows);
    Notes {
        checked,
        observed: busiest.map(|one| one.notes.observed.clone()).unwrap_or_default(),
        longest: earlier.iter().filter_map(|one| one.notes.longest).min(),
        rewalked: earlier.iter().map(|one| one.notes.rewalked).min().unwrap_or_default(),
        ..Notes::default()
    }
}

fn blank(from: Seconds, to: Seconds, state: State, checked: Micros) -> Interval {
    Interval { from, to, state, listed: None, held: 0, checked, reason: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: Seconds = 1_800_000_000;
    const HOUR: Seconds = 3_600;

    /// A stream that began a day before the edge and has a gap from 10 to 8 hours before it.
    fn earlier(organization: Option<&str>) -> Earlier {
        let at = |hours: Seconds| EDGE - hours * HOUR;
        let proven = |from, to| Interval { held: 7, listed: Some(7), ..blank(from, to, State::Proven, 5) };
        let baseline = Interval { listed: Some(3), ..blank(at(48), at(24), State::Baseline, 5) };
        let notes = Notes { start: Some(at(24)), first_contact: at(30) * SECOND, ..Notes::default() };
        let intervals = vec![baseline, proven(at(24), at(10)), proven(at(8), EDGE)];
        Earlier { organization: organization.map(OrganizationId::new), notes, intervals }
    }

    fn heir<'a>(scope: &'a Scope, members: Option<&'a BTreeSet<OrganizationId>>) -> Heir<'a> {
        Heir { scope, members, start: EDGE - HOUR, horizon: EDGE - 48 * HOUR, edge: EDGE }
    }

    /// Pending hours before the edge between the start and the edge.
    fn pending((notes, intervals): &(Notes, Vec<Interval>)) -> Vec<(Seconds, Seconds)> {
        let coverage = Coverage::from_intervals(intervals.iter().cloned());
        let gaps = coverage.gaps(notes.start.unwrap(), EDGE);
        gaps.into_iter().map(|(from, to)| ((EDGE - from) / HOUR, (EDGE - to) / HOUR)).collect()
    }

    #[test]
    fn an_organization_owes_what_its_tree_owed_and_what_it_was_silent_about() {
        let scope = Scope::Organization(OrganizationId::new("a"));
        let mut tree = earlier(None);
        let inherited = heir(&scope, None).inherit(std::slice::from_ref(&tree)).unwrap();
        assert_eq!(inherited.0.start, tree.notes.start);
        assert_eq!(inherited.0.first_contact, tree.notes.first_contact);
        assert_eq!(pending(&inherited), [(10, 8)]);
        assert_eq!(inherited.1[0].listed, None, "the tree's count is not its own");
        tree.notes.silent.insert(OrganizationId::new("a"), (EDGE - 3 * HOUR) * SECOND);
        assert_eq!(pending(&heir(&scope, None).inherit(&[tree]).unwrap()), [(10, 8), (3, 0)]);
        assert!(heir(&scope, None).inherit(&[earlier(Some("b"))]).is_none(), "another tells nothing of it");
    }

    #[test]
    fn a_tree_is_proven_where_each_of_its_organizations_is() {
        let scope = Scope::Tree(OrganizationId::new("a"));
        let members = ["a", "b"].map(OrganizationId::new).into_iter().collect();
        let mut other = earlier(Some("b"));
        other.notes.start = Some(EDGE - 20 * HOUR);
        other.intervals = vec![blank(EDGE - 20 * HOUR, EDGE - HOUR, State::Proven, 5)];
        let inherited = heir(&scope, Some(&members)).inherit(&[earlier(Some("a")), other]).unwrap();
        assert_eq!(inherited.0.start, Some(EDGE - 24 * HOUR), "the earlier of the two");
        assert_eq!(pending(&inherited), [(24, 20), (10, 8), (1, 0)]);
    }

    #[test]
    fn a_tree_of_which_a_part_was_collected_begins_where_that_part_owes_something() {
        let scope = Scope::Tree(OrganizationId::new("a"));
        let members = ["a", "b"].map(OrganizationId::new).into_iter().collect();
        for members in [Some(&members), None] {
            let inherited = heir(&scope, members).inherit(&[earlier(Some("a"))]).unwrap();
            assert_eq!(pending(&inherited), [(10, 0)]);
            let before = &inherited.1[0];
            assert_eq!((before.state, before.listed), (State::Baseline, None), "walked, not only counted");
            assert_eq!(before.from, EDGE - 48 * HOUR);
        }
        assert!(heir(&scope, Some(&members)).inherit(&[]).is_none());
    }
}
