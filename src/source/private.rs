//! How an endpoint is asked that the vendor does not publish: as an operator says who has seen what the portal's own page
//! asks (contract sections 6.1 and 6.3).

use std::time::Duration;

use serde_json::{Map, Value};

use super::Query;
use crate::portal::{Endpoint, PrivatePath};

/// What may stand in place of a value of the body: the page and its size as numbers, the organization that is asked for as
/// text, and whether those below it are wanted, too.
pub const MARKS: [&str; 4] = ["{page}", "{size}", "{organization}", "{tree}"];

/// Where to ask, with what, and what a row is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    pub path: PrivatePath,
    /// The members of the body, or of the query, with [`MARKS`] in it.
    pub body: Map<String, Value>,
    /// The member of a row that names it, in any case; without one a row goes by all that it says.
    pub id: Option<String>,
    /// The member that tells when it happened.
    pub time: Option<String>,
    /// Members whose change is told.
    pub changes: Vec<String>,
    /// How long before the first poll something may have happened to be told.
    pub backfill: Duration,
}

impl Private {
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Private(self.path)
    }

    /// Whether one page is asked after another; else one answer is all there is.
    pub fn is_paged(&self) -> bool {
        self.body.values().any(has_page)
    }

    /// The body that asks `query`.
    pub(super) fn body(&self, query: &Query) -> Vec<u8> {
        let members = self.body.iter().map(|(name, value)| (name.clone(), filled(value, query)));
        let body: Map<String, Value> = members.collect();
        serde_json::to_vec(&body).expect("a JSON value of text keys can be written")
    }

    /// The same as the query string of a GET.
    pub(super) fn query_string(&self, query: &Query) -> String {
        let text = |value: &Value| match filled(value, query) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let members: Vec<(&str, String)> =
            self.body.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        let members: Vec<(&str, &str)> =
            members.iter().map(|(name, value)| (*name, value.as_str())).collect();
        crate::sources::query_string(&members)
    }
}

fn has_page(value: &Value) -> bool {
    match value {
        Value::String(text) => text == MARKS[0],
        Value::Array(values) => values.iter().any(has_page),
        Value::Object(members) => members.values().any(has_page),
        _ => false,
    }
}

fn filled(value: &Value, query: &Query) -> Value {
    match value {
        Value::String(text) => match text.as_str() {
            "{page}" => query.page.into(),
            "{size}" => query.size.into(),
            "{organization}" => query.scope.organization().as_str().into(),
            "{tree}" => query.scope.is_tree().into(),
            _ => value.clone(),
        },
        Value::Array(values) => values.iter().map(|value| filled(value, query)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), filled(value, query))).collect()
        }
        other => other.clone(),
    }
}

/// A text in a body that looks like one of [`MARKS`] and is none.
pub fn unknown_mark(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => {
            let looks_like_one = text.starts_with('{') && text.ends_with('}');
            (looks_like_one && !MARKS.contains(&text.as_str())).then_some(text)
        }
        Value::Array(values) => values.iter().find_map(unknown_mark),
        Value::Object(members) => members.values().find_map(unknown_mark),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::OrganizationId;
    use crate::source::Scope;

    fn private(body: &Value) -> Private {
        let path = PrivatePath::new("Threat/ThreatGetByParameters", false).unwrap();
        let body = body.as_object().unwrap().clone();
        Private { path, body, id: None, time: None, changes: Vec::new(), backfill: Duration::ZERO }
    }

    #[test]
    fn marks_give_way_to_what_is_asked_wherever_they_stand_and_nothing_else_changes() {
        let body = json!({
            "pageNumber": "{page}", "pageSize": "{size}", "text": "page {page}", "none": null, "some": [1, true, "x"],
            "of": { "organizationId": "{organization}", "all": ["{tree}"] },
        });
        let query = Query::whole(Scope::Tree(OrganizationId::new("a")), 3, 50);
        let asked: Value = serde_json::from_slice(&private(&body).body(&query)).unwrap();
        let expected = json!({
            "pageNumber": 3, "pageSize": 50, "text": "page {page}", "none": null, "some": [1, true, "x"],
            "of": { "organizationId": "a", "all": [true] },
        });
        assert_eq!(asked, expected);
        let members = json!({ "page": "{page}", "of": "{organization}", "tree": "{tree}", "text": "a b&c" });
        let query = Query::whole(Scope::Organization(OrganizationId::new("b")), 1, 50);
        let mut asked: Vec<_> =
            private(&members).query_string(&query).split('&').map(str::to_owned).collect();
        asked.sort();
        assert_eq!(asked, ["of=b", "page=1", "text=a+b%26c", "tree=false"]);
    }

    #[test]
    fn what_names_no_page_is_one_answer() {
        assert!(private(&json!({ "a": [{ "n": "{page}" }] })).is_paged());
        assert!(!private(&json!({ "a": "{size}", "b": "page {page}", "c": {} })).is_paged());
    }

    #[test]
    fn a_mark_that_nobody_knows_is_found() {
        assert_eq!(unknown_mark(&json!({ "a": [{ "b": "{pages}" }] })), Some("{pages}"));
        assert_eq!(unknown_mark(&json!({ "a": MARKS, "b": "{", "c": "x {y}" })), None);
    }
}
