//! The world goes on: rows and changes of each second, the same whatever the steps of the clock.

use super::answer::{Content, Row, Threat};
use super::dice::Dice;
use super::rows::{AUDIT_READ, UNIFIED_WEIGHTS};
use super::world::{Source, World, purpose};
use crate::model::{Micros, SECOND};

/// Seconds in a day.
const DAY_SECONDS: i64 = 86_400;

impl World {
    /// Makes everything that reaches the portal in the whole seconds up to and with `now`'s.
    pub(super) fn generate(&mut self, now: Micros) {
        let until = now.div_euclid(SECOND) + 1;
        let from = self.generated_until;
        if until <= from {
            return;
        }
        self.generated_until = until;
        let (mut unified, mut audit) = (Vec::new(), Vec::new());
        for second in from..until {
            for number in due(second, self.options.rows_per_day) {
                unified.push(self.unified_row(second, number));
            }
            for number in due(second, self.options.audit_rows_per_day) {
                audit.push(self.audit_row(second, number));
            }
            for number in due(second, self.options.computer_changes_per_day) {
                let dice = Dice::new(self.options.seed, purpose::LIVE_COMPUTER, number);
                self.fleet.change(second * SECOND, dice);
            }
            for number in due(second, self.options.policy_changes_per_day) {
                let dice = Dice::new(self.options.seed, purpose::LIVE_POLICY, number);
                self.policies.change(second * SECOND, dice);
            }
            for number in due(second, self.options.online_device_changes_per_day) {
                let dice = Dice::new(self.options.seed, purpose::LIVE_ONLINE_DEVICE, number);
                self.online.change(second * SECOND, dice);
            }
            for number in due(second, self.options.organization_changes_per_day) {
                let dice = Dice::new(self.options.seed, purpose::LIVE_ORGANIZATION, number);
                self.change_organizations(second * SECOND, dice);
            }
            for number in due(second, self.options.approvals_per_day) {
                let dice = Dice::new(self.options.seed, purpose::LIVE_APPROVAL, number);
                self.approvals.live(second * SECOND, dice);
            }
        }
        self.insert(Source::UnifiedAudit, unified);
        self.insert(Source::SystemAudit, audit);
    }

    fn unified_row(&self, second: i64, number: u64) -> Row {
        let mut dice = Dice::new(self.options.seed, purpose::LIVE_UNIFIED, number);
        let (at, imported, listed_from) = self.times(second, &mut dice);
        let table = match dice.chance(self.options.other_table_share) {
            true => dice.pick(&[2, 3, 4]),
            false => 1,
        };
        Row {
            id: Some(number),
            content: Content::Generated(number),
            at,
            imported,
            listed_from,
            deleted_at: None,
            organization: self.any_organization(&mut dice),
            action: dice.pick(&UNIFIED_WEIGHTS),
            table,
            threat: self.threat(number, imported),
        }
    }

    /// What the portal thinks of a row's file: of its own dice, so that whoever has none sees the same rows.
    fn threat(&self, number: u64, imported: Micros) -> Threat {
        let mut dice = Dice::new(self.options.seed, purpose::THREAT, number);
        if !dice.chance(self.options.threat_share) {
            return Threat::default();
        }
        let (known, has_level) =
            dice.pick(&[(true, true), (true, true), (true, true), (true, false), (false, true)]);
        let late = dice.chance(self.options.late_level_share);
        let after = if late { 60 + dice.below(6 * 3_600) } else { 0 };
        let level = dice.pick(&["Severe", "Warning", "Warning"]);
        Threat {
            known,
            ratings: known,
            level: has_level.then_some((level, imported + (after - 60 * i64::from(!late)) * SECOND)),
        }
    }

    fn audit_row(&self, second: i64, number: u64) -> Row {
        let mut dice = Dice::new(self.options.seed, purpose::LIVE_AUDIT, number);
        // The portal writes this audit itself, so nothing of it comes late.
        let imported = grain(second * SECOND + dice.below(SECOND), &mut dice);
        let has_id = !dice.chance(self.options.no_id_share);
        Row {
            id: has_id.then_some(number),
            content: Content::Generated(number),
            at: imported,
            imported,
            listed_from: imported + dice.below(3 * SECOND),
            deleted_at: None,
            organization: self.any_organization(&mut dice),
            action: dice.pick(&[0, 1, 2, 2, 2, 3, 4, 4, AUDIT_READ, AUDIT_READ]),
            table: 1,
            threat: Threat::default(),
        }
    }

    /// When a row happened, reached the portal and can be listed.
    fn times(&self, second: i64, dice: &mut Dice) -> (Micros, Micros, Micros) {
        let options = &self.options;
        let imported = grain(second * SECOND + dice.below(SECOND), dice);
        let delay = if dice.chance(options.late_share) {
            // Delays of every order of magnitude, from minutes to the whole span.
            let longest = (options.late_days * DAY_SECONDS).max(60) >> dice.below(11);
            60 + dice.below(longest)
        } else if dice.chance(options.future_share) {
            -dice.below(3 * DAY_SECONDS)
        } else {
            1 + dice.below(60)
        };
        let wrong_clock = dice.chance(0.1);
        let wrong = dice.below(2 * options.skew_seconds + 1) - options.skew_seconds;
        let skew = if wrong_clock { wrong * SECOND } else { 0 };
        let at = grain(imported - delay * SECOND + dice.below(SECOND) + skew, dice);
        (at, imported, imported + dice.below(2 * SECOND))
    }

    /// The parent has fewer rows than its children.
    fn any_organization(&self, dice: &mut Dice) -> u16 {
        let children = self.options.organizations.saturating_sub(1);
        if children == 0 || dice.chance(0.1) {
            return 0;
        }
        let busy = match self.options.one_busy_in {
            0 => 0,
            one_in => children / one_in,
        };
        let among = if busy > 0 && dice.chance(0.9) { busy } else { children };
        1 + u16::try_from(dice.below(i64::from(among))).expect("below a u16")
    }
}

/// Numbers of the things due in one second, at an even rate a day.
fn due(second: i64, per_day: i64) -> std::ops::Range<u64> {
    let until = |second: i64| {
        let whole = second.div_euclid(DAY_SECONDS) * per_day;
        let part = second.rem_euclid(DAY_SECONDS) * per_day / DAY_SECONDS;
        u64::try_from(whole + part).unwrap_or(0)
    };
    until(second)..until(second + 1)
}

/// Dates of the precisions seen: whole seconds (so that many rows share one), milli- and microseconds.
fn grain(at: Micros, dice: &mut Dice) -> Micros {
    let grain = dice.pick(&[SECOND, 1_000, 1_000, 1]);
    at.div_euclid(grain) * grain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::world::WorldOptions;

    #[test]
    fn the_steps_of_the_clock_do_not_change_what_happens() {
        let options = WorldOptions { backlog_hours: 1, ..WorldOptions::default() };
        let start = options.start;
        let (mut whole, mut steps) = (World::new(options.clone()), World::new(options));
        whole.advance(start + 3_600 * SECOND);
        for step in 0..3_600 * 2 {
            steps.advance(start + step * SECOND / 2);
        }
        steps.advance(start + 3_600 * SECOND);
        for source in [Source::UnifiedAudit, Source::SystemAudit] {
            let sorted = |world: &World| {
                let mut rows: Vec<_> =
                    world.rows(source).iter().map(|row| (row.content, row.at, row.listed_from)).collect();
                rows.sort();
                rows
            };
            assert!(!whole.rows(source).is_empty());
            assert_eq!(sorted(&whole), sorted(&steps));
        }
    }

    #[test]
    fn few_organizations_have_most_of_the_rows_where_the_world_is_skewed() {
        let options = WorldOptions { organizations: 101, one_busy_in: 50, ..WorldOptions::default() };
        let world = World::new(options);
        let rows = world.rows(Source::UnifiedAudit);
        let of = |organizations: std::ops::RangeInclusive<u16>| {
            rows.iter().filter(|row| organizations.contains(&row.organization)).count() as f64
        };
        let busy = of(1..=2) / of(1..=100);
        assert!((0.88..0.93).contains(&busy), "{busy}");
        assert!(of(3..=100) > 500.0);
    }

    #[test]
    fn the_rate_is_kept_and_rows_come_late_as_told() {
        let options = WorldOptions { rows_per_day: 50_000, live: false, ..WorldOptions::default() };
        let world = World::new(options);
        let rows = world.rows(Source::UnifiedAudit);
        assert!((49_990..=50_010).contains(&rows.len()), "{}", rows.len());
        let late = rows.iter().filter(|row| row.imported - row.at > 90 * SECOND).count();
        assert!((6_500..8_500).contains(&late), "{late}");
        let longest = rows.iter().map(|row| row.imported - row.at).max().unwrap();
        assert!(longest > 20 * 86_400 * SECOND);
    }
}
