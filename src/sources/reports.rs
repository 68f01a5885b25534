//! Reports: what the portal puts together on demand. `GET Report/ReportGetByOrganizationId` lists them, `POST
//! Report/ReportGetDynamicData` runs one (contract section 3).
//!
//! The reports of all computers give devices, any other that is named gives rows as they are. A report is found by
//! its name, since ids may differ from portal to portal, and its columns by their headings, since nobody documents
//! them. Which report a stream runs is its narrowing: [`Report`].

mod read;

pub use read::row_id;

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::{Entry, Kind, Micros, OrganizationId, SECOND, Seconds, is_guid};
use crate::normalise::fingerprint;
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::enrichment::{Facts, LONGEST_NAME, is_person};
use crate::record::row::{Field, Names, Row};
use crate::source::{Filter, Query, Rejected, RowKey, Shape, Source, request_time};

pub struct Reports;

/// The name of the source.
pub const NAME: &str = "reports";

/// The reports of all computers, the one that shows a whole tree first (contract section 3.3, AW).
pub const ALL_COMPUTERS: [&str; 2] = ["All Computers - Including Child Organizations", "All-Computers"];

/// What the stream of the reports of all computers is called in the state; never changes.
pub const COMPUTERS_QUERY: &str = "report=all computers";

/// [`RowKey`] of rows that tell of computers, and of any others.
pub const COMPUTERS: u8 = 0;
pub const ROWS: u8 = 1;

/// The report that a stream runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// By any of these names, the first that the portal has.
    pub names: Vec<String>,
    /// Its rows are computers.
    pub is_computers: bool,
    /// How much time is asked for, of a report that shows a span of it.
    pub span: Duration,
}

impl Report {
    /// That of all computers, as it is run unless another is named.
    pub fn of_all_computers() -> Self {
        let names = ALL_COMPUTERS.map(str::to_owned).to_vec();
        Self { names, is_computers: true, span: Duration::from_secs(86_400) }
    }

    /// What it goes by in the state; never changes. The reports of all computers are one, whichever the portal has.
    pub fn key(&self) -> Cow<'_, str> {
        match self.is_computers {
            true => Cow::Borrowed("all computers"),
            false => Cow::Owned(self.names.first().map(|name| normalised(name)).unwrap_or_default()),
        }
    }

    /// The names to look for, in the order of preference. One organization alone is shown by a report that does not
    /// show its children.
    pub fn wanted(&self, is_tree: bool) -> Vec<&str> {
        let mut names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if self.is_computers && !is_tree {
            names.sort_by_key(|name| normalised(name).contains("child organizations"));
        }
        names
    }

    /// The span of time that ends now.
    pub fn newest(&self, now: Micros) -> (Seconds, Seconds) {
        let (span, now) = (self.span_seconds(), now.div_euclid(SECOND));
        (now - span, now)
    }

    pub fn span_seconds(&self) -> Seconds {
        i64::try_from(self.span.as_secs()).unwrap_or(i64::MAX / SECOND)
    }

    /// What the rows are told apart by.
    pub fn part(&self) -> u8 {
        if self.is_computers { COMPUTERS } else { ROWS }
    }
}

/// A name in small letters, with one blank for whatever blanks, hyphens, underscores and dashes stand between words:
/// documents write the same report in several ways (contract section 3.3).
pub fn normalised(name: &str) -> String {
    let between = |letter: char| {
        letter.is_whitespace()
            || matches!(
                letter,
                '-' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
            )
    };
    let words: Vec<String> =
        name.split(between).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    words.join(" ")
}

/// A report that the portal has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub name: String,
    /// It shows a span of time.
    pub takes_dates: bool,
}

/// The reports in an element of the portal's list: a group of them, or one (contract section 3.1).
pub fn listed(element: &str) -> Vec<Listed> {
    let Ok(element) = serde_json::from_str::<Value>(element) else { return Vec::new() };
    match member(&element, "reports") {
        Some(Value::Array(reports)) => reports.iter().filter_map(one).collect(),
        Some(_) => Vec::new(),
        None => one(&element).into_iter().collect(),
    }
}

fn one(report: &Value) -> Option<Listed> {
    let text =
        |name| member(report, name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let takes_dates = match member(report, "dateOption") {
        Some(Value::Bool(takes)) => *takes,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    Some(Listed { id: text("reportId")?.to_owned(), name: text("name")?.to_owned(), takes_dates })
}

fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    object.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// What a computer without an id goes by: its host, and its organization's name where nothing more is known of that.
pub fn host_id(host: &str, organization_name: Option<&str>) -> String {
    let host = host.trim().to_lowercase();
    match organization_name {
        None => format!("host:{host}"),
        Some(name) => format!("host:{host}@{}", name.trim().to_lowercase()),
    }
}

/// The body that runs a report for a span of time, with every member of contract section 3.2.
pub fn run(report: &Listed, is_tree: bool, (from, to): (Seconds, Seconds)) -> Value {
    json!({
        "reportId": report.id,
        // Both always: the schema takes no null, whatever the report says that it needs.
        "startDate": request_time(from),
        "endDate": request_time(to),
        "data": "",
        "offsetInMinutes": 0,
        "id": Uuid::nil(),
        "includeChildOrganizations": is_tree,
        "options": [],
    })
}

impl Source for Reports {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Volatile columns: those that are so in the list of computers (contract section 11), under the headings that
    /// are accepted for them, and the counts of what was denied.
    fn shape(&self) -> Shape {
        Shape::Snapshot { volatile: &read::VOLATILE }
    }

    fn kind(&self) -> Kind {
        Kind::Device
    }

    fn kind_of(&self, filter: &Filter) -> Kind {
        match &filter.report {
            Some(report) if !report.is_computers => Kind::Event,
            _ => Kind::Device,
        }
    }

    fn permission(&self) -> &'static str {
        "View Reports"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::ReportList)
    }

    fn body(&self, _query: &Query) -> Value {
        Value::Null
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        let examples: Vec<Value> =
            serde_json::from_str(include_str!("reports/examples.json")).expect("the examples are JSON");
        examples.iter().map(Value::to_string).collect()
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        read::read(entry, row, previous, emit);
    }

    /// Of a computer without an id, the name of its host stands for it within its organization (contract section
    /// 3.3); of any other row all that it says. `at` is the last check-in.
    fn key<'a>(&self, row: &'a str, part: u8) -> Result<RowKey<'a>, Rejected> {
        let values = Row::read(self.names(), row, usize::MAX)?;
        let mut key = RowKey {
            organization: OrganizationId::none(),
            organization_name: None,
            vendor_id: None,
            content: [0; 16],
            at: None,
            imported: None,
            reader: None,
            computer: None,
            host: None,
            user: None,
            facts: None,
            rated: false,
        };
        let said = read::Said::of(&values);
        let owned = |field: Option<Field<'_>>| {
            field.map(|field| field.text().into_owned()).filter(|text| text.len() <= LONGEST_NAME)
        };
        if let Some(organization) = said.organization.filter(|id| is_guid(id.inner())) {
            key.organization = OrganizationId::new(organization.inner());
        }
        key.organization_name = said.organization_name.map(|name| Cow::Owned(name.text().into_owned()));
        if part != COMPUTERS {
            key.content = fingerprint(row, &[])?;
            return Ok(key);
        }
        let host =
            owned(said.hostname).map(|host| host.trim().to_lowercase()).filter(|host| !host.is_empty());
        let id = said.id.map(|id| id.text().into_owned());
        let id = id.or_else(|| host.as_ref().map(|host| host_id(host, None)));
        let id = id.ok_or_else(|| Rejected("a computer without an id and a host name".to_owned()))?;
        key.at = said.last_seen.map(|seen| seen.at);
        key.user =
            said.user.map(|user| user.text().into_owned()).filter(|user| is_person(user)).map(Cow::Owned);
        key.facts = Some(Box::new(Facts {
            name: owned(said.name).or_else(|| owned(said.hostname)),
            host,
            os: owned(said.os),
            group: owned(said.group),
            organization: owned(said.organization_name),
            mode: owned(said.mode),
        }));
        key.vendor_id = Some(Cow::Owned(id.clone()));
        key.computer = Some(Cow::Owned(id));
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
