//! Whether two sinks could write into one index: what one takes for its own would be the other's.

use std::collections::HashSet;

use super::index::{IndexTemplate, Part, fits, value};
use crate::model::Kind;
use crate::source::SOURCES;

/// What one letter of a name may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    This(char),
    Digit,
    Any,
}

impl Letter {
    fn meets(self, other: Self) -> bool {
        use Letter::{Any, Digit, This};
        match (self, other) {
            (This(one), This(other)) => one == other,
            (This(letter), Digit) | (Digit, This(letter)) => letter.is_ascii_digit(),
            (This(letter), Any) | (Any, This(letter)) => fits(letter),
            (Digit | Any, Digit | Any) => true,
        }
    }
}

/// Every name that a template may give, as places with the letters that lead from one to another.
struct Names {
    ways: Vec<Vec<(Letter, usize)>>,
    end: usize,
}

impl Names {
    /// `sites`: the labels of all sites; none where nobody knows them.
    fn of(template: &IndexTemplate, sites: Option<&[&str]>) -> Self {
        let mut names = Self { ways: vec![Vec::new()], end: 0 };
        for part in template.parts() {
            match (part, sites) {
                (Part::Text(text), _) => names.one_of(std::slice::from_ref(text)),
                (Part::Kind, _) => names.one_of(&Kind::ALL.map(|kind| kind.as_str().to_owned())),
                (Part::Source, _) => names.one_of(&SOURCES.map(|source| written(source.name()))),
                (Part::Site, Some(sites)) => {
                    names.one_of(&sites.iter().map(|site| written(site)).collect::<Vec<_>>());
                }
                (Part::Site, None) | (Part::OrganizationId | Part::OrganizationSlug, _) => names.anything(),
                (Part::Date, _) => names.date(),
            }
        }
        names
    }

    fn place(&mut self) -> usize {
        self.ways.push(Vec::new());
        self.ways.len() - 1
    }

    fn one_of(&mut self, words: &[String]) {
        let (start, end) = (self.end, self.place());
        // A word without letters leads nowhere: it is where it was.
        if words.iter().all(String::is_empty) {
            self.ways.pop();
            return;
        }
        for word in words {
            let (mut at, mut letters) = (start, word.chars().peekable());
            while let Some(letter) = letters.next() {
                let next = if letters.peek().is_some() { self.place() } else { end };
                self.ways[at].push((Letter::This(letter), next));
                at = next;
            }
        }
        self.end = end;
    }

    fn anything(&mut self) {
        let (start, end) = (self.end, self.place());
        self.ways[start].push((Letter::Any, end));
        self.ways[end].push((Letter::Any, end));
        self.end = end;
    }

    fn date(&mut self) {
        for letter in "dddd-dd-dd".chars() {
            let (start, end) = (self.end, self.place());
            let letter = if letter == 'd' { Letter::Digit } else { Letter::This(letter) };
            self.ways[start].push((letter, end));
            self.end = end;
        }
    }
}

fn written(text: &str) -> String {
    let mut name = String::new();
    value(text, &mut name);
    name
}

impl IndexTemplate {
    /// Whether a name that this gives may be one that the other gives. `sites`: the labels of all sites, where they are
    /// known.
    pub fn may_meet(&self, other: &Self, sites: Option<&[&str]>) -> bool {
        let (one, other) = (Names::of(self, sites), Names::of(other, sites));
        let (mut seen, mut open) = (HashSet::from([(0, 0)]), vec![(0, 0)]);
        while let Some((left, right)) = open.pop() {
            if (left, right) == (one.end, other.end) {
                return true;
            }
            for (letter, left) in &one.ways[left] {
                for (_, right) in other.ways[right].iter().filter(|(other, _)| letter.meets(*other)) {
                    if seen.insert((*left, *right)) {
                        open.push((*left, *right));
                    }
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(one: &str, other: &str) -> bool {
        let template = |text| IndexTemplate::parse(text).unwrap();
        let meet = template(one).may_meet(&template(other), Some(&["acme", "Beta"]));
        assert_eq!(meet, template(other).may_meet(&template(one), Some(&["acme", "Beta"])), "{one} {other}");
        meet
    }

    #[test]
    fn two_templates_meet_where_some_record_could_get_one_name_from_both() {
        for (one, other) in [
            ("threatlocker-{kind}s-{date}", "threatlocker-{kind}s-{date}"),
            ("threatlocker-{kind}s-{date}", "threatlocker-devices-{date}"),
            ("x-{site}", "x-acme"),
            ("x-{site}", "x-beta"),
            ("x-{org_slug}", "x-{source}"),
            ("x-{org_slug}-y", "x-a-{org_id}"),
            ("x-{date}", "x-2026-11-22"),
            ("x{kind}{source}", "xevent{org_slug}"),
        ] {
            assert!(meet(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("threatlocker-{kind}s-{date}", "threatlocker-audit-{date}"),
            ("x-{site}", "x-gamma"),
            ("x-{site}", "x-acme-{date}"),
            ("x-{date}", "x-{kind}"),
            ("x-{date}", "x-2026-11-2x"),
            ("x-{org_slug}", "y-{org_slug}"),
            ("x-{org_slug}", "x-"),
        ] {
            assert!(!meet(one, other), "{one} {other}");
        }
    }

    #[test]
    fn sites_that_nobody_knows_may_be_called_anything() {
        let template = |text| IndexTemplate::parse(text).unwrap();
        assert!(template("x-{site}").may_meet(&template("x-gamma"), None));
    }
}
