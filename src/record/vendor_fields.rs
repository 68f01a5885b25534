//! Which fields the rows of a source have: what the vendor adds or drops is noticed.
//!
//! The contract is not the vendor's to keep: a portal version may add fields, and may drop some (contract
//! section 1.4). What is added is delivered, in what remains of a row; what is dropped is missing in every
//! record made since. Neither is an error, and both should be known. Pages are sampled, since a change of the
//! vendor's shows in every row or in many.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::row::Names;

/// So many rows of a page are looked at, spread over it.
const SAMPLE: usize = 64;
/// A field is usual once it stood in so many sampled rows on end, and dropped once it was missing in as many.
const CERTAIN: u32 = 50;
/// So many fields that are not known by name are told apart; a name is cut at so many characters.
const MOST: usize = 64;
pub const LONGEST: usize = 80;
/// Columns of a report that are told apart.
pub const MOST_COLUMNS: usize = 256;

/// What is known of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldState {
    /// Known by name, and in all rows.
    Usual,
    /// Not known to this version by name.
    Added,
    /// Was usual, and no row has it any more.
    Dropped,
}

impl FieldState {
    pub const ALL: [Self; 3] = [Self::Usual, Self::Added, Self::Dropped];

    /// As in the store, in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Added => "added",
            Self::Dropped => "dropped",
        }
    }
}

/// A field and what became known of it.
pub type FieldChange = (String, FieldState);

/// What the rows of one stream were seen to have.
#[derive(Debug)]
pub struct VendorFields {
    names: &'static Names,
    /// By slot of the known names, then of those that are not known, as they were first seen.
    fields: Vec<Seen>,
    /// Names that this version does not know.
    unknown: Vec<String>,
    changes: Vec<FieldChange>,
    /// Which rows of the next page are looked at.
    turn: usize,
    /// The columns of a report as they were last.
    columns: BTreeMap<String, FieldState>,
}

/// How a field fared in the rows looked at last.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    state: Option<FieldState>,
    /// Rows on end with it, and without it.
    with: u32,
    without: u32,
}

impl VendorFields {
    /// `known`: what was noticed before, as it was stored.
    pub fn new(names: &'static Names, known: impl IntoIterator<Item = FieldChange>) -> Self {
        let fields = vec![Seen::default(); names.all().len()];
        let columns = BTreeMap::new();
        let mut new = Self { names, fields, unknown: Vec::new(), changes: Vec::new(), turn: 0, columns };
        if names.are_headings() {
            new.columns.extend(known);
            return new;
        }
        for (name, state) in known {
            // What an older version did not know, this one may.
            let known = names.find(name.as_bytes()).is_some();
            if known != (state == FieldState::Added)
                && let Some(field) = new.place(&name)
            {
                new.fields[field].state = Some(state);
            }
        }
        new
    }

    /// Looks at a page of rows.
    pub fn look<'a>(&mut self, rows: impl ExactSizeIterator<Item = &'a str>) {
        let every = rows.len().div_ceil(SAMPLE).max(1);
        self.turn = (self.turn + 1) % every;
        let mut looked = 0;
        let mut counts = Vec::new();
        for row in rows.skip(self.turn).step_by(every) {
            let mut reader = serde_json::Deserializer::from_str(row);
            let members = Members { fields: self, counts: &mut counts, row: looked + 1 };
            // What is no object is no row of a source either.
            looked += u32::from(reader.deserialize_map(members).is_ok());
        }
        counts.resize(self.fields.len(), Count::default());
        for (field, count) in counts.into_iter().enumerate() {
            self.judge(field, count.rows, looked);
        }
    }

    /// Looks at all columns of a report. Each report has its own, and nobody documents them: those that it had at
    /// first are usual. One without any says nothing.
    pub fn look_at_columns(&mut self, columns: &BTreeSet<String>) {
        if columns.is_empty() {
            return;
        }
        let is_first = self.columns.is_empty();
        for name in columns {
            let state = match self.columns.get(name) {
                None if is_first => FieldState::Usual,
                None => FieldState::Added,
                Some(FieldState::Dropped) => FieldState::Usual,
                Some(_) => continue,
            };
            self.changes.push((name.clone(), state));
        }
        for (name, state) in &self.columns {
            if !columns.contains(name) && *state != FieldState::Dropped {
                self.changes.push((name.clone(), FieldState::Dropped));
            }
        }
        self.columns.extend(self.changes.iter().cloned());
    }

    /// What became known since this was last asked.
    pub fn take_changes(&mut self) -> Vec<FieldChange> {
        std::mem::take(&mut self.changes)
    }

    fn judge(&mut self, field: usize, count: u32, looked: u32) {
        let seen = &mut self.fields[field];
        seen.with = if count == looked { seen.with.saturating_add(looked) } else { 0 };
        seen.without = if count == 0 { seen.without.saturating_add(looked) } else { 0 };
        let known = field < self.names.all().len();
        let state = match seen.state {
            None if !known && count > 0 => FieldState::Added,
            None if known && seen.with >= CERTAIN => FieldState::Usual,
            Some(FieldState::Dropped) if count > 0 => FieldState::Usual,
            Some(FieldState::Usual) if seen.without >= CERTAIN => FieldState::Dropped,
            _ => return,
        };
        seen.state = Some(state);
        let name = match field.checked_sub(self.names.all().len()) {
            None => self.names.all()[field].to_owned(),
            Some(unknown) => self.unknown[unknown].clone(),
        };
        self.changes.push((name, state));
    }

    /// The place of a field; none for a name beyond the most that are told apart.
    fn place(&mut self, name: &str) -> Option<usize> {
        if let Some(slot) = self.names.find(name.as_bytes()) {
            return Some(usize::from(slot));
        }
        let name: String = name.chars().take(LONGEST).collect();
        let at = self.unknown.iter().position(|known| *known == name);
        if at.is_none() && self.unknown.len() < MOST {
            self.unknown.push(name);
            self.fields.push(Seen::default());
            return Some(self.fields.len() - 1);
        }
        Some(self.names.all().len() + at?)
    }
}

/// In how many rows a field stood, and the last of them, from 1.
#[derive(Clone, Copy, Default)]
struct Count {
    rows: u32,
    last: u32,
}

struct Members<'a> {
    fields: &'a mut VendorFields,
    counts: &'a mut Vec<Count>,
    row: u32,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&RawValue>()? {
            map.next_value::<IgnoredAny>()?;
            let Some(field) = self.fields.place(key.get().trim_matches('"')) else { continue };
            if field >= self.counts.len() {
                self.counts.resize(self.fields.fields.len(), Count::default());
            }
            let count = &mut self.counts[field];
            // A name that comes twice, in two casings perhaps, counts once.
            if count.last != self.row {
                *count = Count { rows: count.rows + 1, last: self.row };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NAMES: Names = Names::new(&["id", "name", "port"]);
    const PLAIN: &str = r#"{"id":1,"Name":null}"#;

    fn look(fields: &mut VendorFields, row: &str, times: usize) -> Vec<FieldChange> {
        fields.look(std::iter::repeat_n(row, times));
        fields.take_changes()
    }

    fn named(name: &str, state: FieldState) -> FieldChange {
        (name.to_owned(), state)
    }

    #[test]
    fn a_field_that_no_list_names_is_told_once() {
        let mut fields = VendorFields::new(&NAMES, []);
        let row = r#"{"id":1,"colour":"red","Colour":2}"#;
        let wanted = [named("colour", FieldState::Added), named("Colour", FieldState::Added)];
        assert_eq!(look(&mut fields, row, 1), wanted);
        assert_eq!(look(&mut fields, row, 1), []);
        assert_eq!(look(&mut VendorFields::new(&NAMES, wanted), row, 1), [], "nor after a restart");
    }

    #[test]
    fn a_field_is_dropped_when_it_was_in_all_rows_and_is_in_none_for_as_long() {
        let mut fields = VendorFields::new(&NAMES, []);
        let usual = [named("id", FieldState::Usual), named("name", FieldState::Usual)];
        assert_eq!(look(&mut fields, PLAIN, 49), []);
        assert_eq!(look(&mut fields, PLAIN, 1), usual);
        assert_eq!(look(&mut fields, "[1]", 60), [], "what is no row lacks nothing");
        for _ in 0..2 {
            assert_eq!(look(&mut fields, r#"{"id":1}"#, 49), []);
            assert_eq!(look(&mut fields, PLAIN, 1), [], "it was in one row between");
        }
        assert_eq!(look(&mut fields, r#"{"id":1}"#, 49), []);
        assert_eq!(look(&mut fields, r#"{"id":1}"#, 1), [named("name", FieldState::Dropped)]);
        assert_eq!(look(&mut fields, r#"{"id":1}"#, 60), []);
        assert_eq!(look(&mut fields, PLAIN, 1), [named("name", FieldState::Usual)], "it is back");
    }

    #[test]
    fn what_was_usual_before_a_restart_is_missed_after_it() {
        let mut fields = VendorFields::new(&NAMES, [named("name", FieldState::Usual)]);
        assert_eq!(
            look(&mut fields, r#"{"port":1}"#, 50),
            [named("name", FieldState::Dropped), named("port", FieldState::Usual)]
        );
    }

    #[test]
    fn a_field_that_only_some_rows_have_is_neither_usual_nor_dropped() {
        let mut fields = VendorFields::new(&NAMES, []);
        let odd = r#"{"id":1,"port":2,"Port":3}"#;
        for _ in 0..100 {
            fields.look([PLAIN, odd].into_iter());
        }
        for _ in 0..100 {
            fields.look([odd].into_iter());
            fields.look([PLAIN].into_iter());
        }
        look(&mut fields, PLAIN, 500);
        let told = fields.take_changes();
        assert!(told.iter().all(|(name, _)| name != "port"), "{told:?}");
        assert!(fields.fields[NAMES.find(b"port").map(usize::from).unwrap()].state.is_none());
    }

    #[test]
    fn a_field_of_one_row_among_many_is_met_in_the_end() {
        let mut fields = VendorFields::new(&NAMES, []);
        let met = (0..10).any(|_| {
            let mut page = vec![PLAIN; 500];
            page[77] = r#"{"id":1,"odd":1}"#;
            fields.look(page.into_iter());
            fields.take_changes().contains(&named("odd", FieldState::Added))
        });
        assert!(met);
    }

    #[test]
    fn names_without_end_cost_no_memory_without_end() {
        let mut fields = VendorFields::new(&NAMES, []);
        for number in 0..1_000 {
            let row = format!(r#"{{"field{number}{}":1}}"#, "x".repeat(1_000));
            fields.look([row.as_str()].into_iter());
        }
        let told = fields.take_changes();
        assert_eq!(told.len(), MOST);
        assert!(told.iter().all(|(name, _)| name.len() <= LONGEST));
    }

    #[test]
    fn a_version_that_knows_an_added_field_says_so_no_more() {
        let mut fields = VendorFields::new(&NAMES, [named("port", FieldState::Added)]);
        assert_eq!(look(&mut fields, r#"{"port":1}"#, 1), []);
        assert_eq!(look(&mut fields, r#"{"port":1}"#, 50), [named("port", FieldState::Usual)]);
    }

    #[test]
    fn columns_of_a_report_are_usual_at_first_and_each_change_of_them_is_told_once() {
        static HEADINGS: Names = Names::headings(&["hostname"]);
        let of =
            |columns: &[&str]| columns.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let mut fields = VendorFields::new(&HEADINGS, []);
        let mut told = |columns: &[&str]| {
            fields.look_at_columns(&of(columns));
            fields.take_changes()
        };
        assert_eq!(told(&["A", "B"]), [named("A", FieldState::Usual), named("B", FieldState::Usual)]);
        assert_eq!(told(&["A", "B"]), []);
        assert_eq!(told(&["A", "C"]), [named("C", FieldState::Added), named("B", FieldState::Dropped)]);
        assert_eq!((told(&["A", "C"]), told(&[])), (vec![], vec![]), "one without columns says nothing");
        assert_eq!(told(&["A", "B", "C"]), [named("B", FieldState::Usual)]);
        let known = [named("A", FieldState::Usual), named("C", FieldState::Added)];
        let mut fields = VendorFields::new(&HEADINGS, known);
        fields.look_at_columns(&of(&["A", "C"]));
        assert_eq!(fields.take_changes(), [], "nor after a restart");
    }
}
