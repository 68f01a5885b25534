//! What can go wrong with the portal, and what to do about it: decided here, once.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use thiserror::Error;

use super::Endpoint;
use crate::credentials::CredentialError;

/// Characters of a portal's message that are worth showing.
const LONGEST_MESSAGE: usize = 300;

/// A failed request, with the site and endpoint it was for.
#[derive(Debug, Error)]
#[error("site {site}{}: {failure}", Self::place(.endpoint))]
pub struct PortalError {
    pub site: String,
    /// The endpoint asked; absent when no request could be made at all.
    pub endpoint: Option<Endpoint>,
    #[source]
    pub failure: Failure,
}

/// What went wrong.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("a request must name its organization; only the discovery may leave it out")]
    NoOrganization,
    /// No answer, or one that broke off; retried already.
    #[error("no whole answer: {0}; check network, proxy, certificates and the portal's status page")]
    Unreachable(String),
    /// An answer other than success that is none of the cases below.
    #[error("{0}")]
    Answer(Answer),
    /// The portal says wait, for longer than a request may block.
    #[error("the portal asks to wait until {}", shown(.until))]
    Throttled { until: DateTime<Utc>, wait: Duration },
    /// The token is refused: no request is made before `next_probe`, unless the token changes.
    #[error("{answer}: the token is revoked, expired, belongs to another instance or has no role at all; renew it, or give its API user its roles back; asked again at {}", shown(.next_probe))]
    Rejected { answer: Answer, next_probe: DateTime<Utc> },
    /// The token works elsewhere, so only the role for this endpoint is missing.
    #[error(
        "{0}: the token works for other requests, so tick the permission for this source in the API user's role"
    )]
    MissingRole(Answer),
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    /// A success whose body is no list of rows.
    #[error("the answer cannot be read: {reason}")]
    Undecodable { reason: String },
    /// Discovery found nothing to go by.
    #[error("the token's own organization cannot be found out ({0}); set organization_id for this site")]
    UnknownOrganization(String),
}

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Ask again later, not before `after` if it is given.
    Retry { after: Option<Duration> },
    /// The user must renew the token; nothing else helps.
    RenewToken,
    /// The user must tick a permission; the text is the portal's own.
    MissingRole(String),
    /// Ask for fewer rows. At one row: give the row up or treat it as [`Remedy::SkipPoll`].
    SmallerPage,
    /// This request will not work as it is; report it and go on with the next poll.
    SkipPoll,
    /// The configuration must change.
    Stop,
}

/// What [`PortalError::advice`] says of a token that is refused.
pub const TOKEN_REFUSED: (&str, &str) =
    ("the portal refuses the token", "renew it; if its API user lost its roles, give them back");

/// A page size up to this works at every portal seen (contract section 1.6).
pub const SAFE_PAGE_SIZE: u32 = 500;

impl PortalError {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match &self.failure {
            Failure::Settings(_) | Failure::NoOrganization | Failure::UnknownOrganization(_) => Remedy::Stop,
            Failure::Credential(_) | Failure::Unreachable(_) => Remedy::Retry { after: None },
            Failure::Throttled { wait, .. } => Remedy::Retry { after: Some(*wait) },
            Failure::Rejected { .. } => Remedy::RenewToken,
            Failure::MissingRole(answer) => Remedy::MissingRole(answer.message.clone()),
            Failure::TooLarge { .. } | Failure::Undecodable { .. } => Remedy::SmallerPage,
            Failure::Answer(answer) => match answer.status {
                400 if answer.page_size.is_some_and(|size| size > u64::from(SAFE_PAGE_SIZE)) => {
                    Remedy::SmallerPage
                }
                // Refused, but whether for a lack of the token or of a role could not be found out yet.
                401 | 403 | 440 => Remedy::Retry { after: None },
                _ if answer.transient() => Remedy::Retry { after: None },
                _ => Remedy::SkipPoll,
            },
        }
    }

    /// What is wrong, whichever request met it, and what an operator can do. Requests that fail for one reason
    /// say the same, so that one dead portal is one problem.
    pub fn advice(&self) -> (&'static str, &'static str) {
        match &self.failure {
            Failure::Unreachable(_) => (
                "the portal cannot be reached",
                "check network, proxy, certificates and the portal's status page",
            ),
            Failure::Throttled { .. } => {
                ("the portal asks to wait", "it is asked again by itself; a lower rate.per_second asks less")
            }
            Failure::Answer(answer) if matches!(answer.status, 401 | 403 | 440) => {
                ("the portal refuses requests", "check the token and the roles of the API user")
            }
            Failure::Answer(answer) if answer.status == 407 => (
                "the proxy refuses us",
                "check http.proxy of this site, or HTTPS_PROXY with its user and password",
            ),
            Failure::Answer(answer) if answer.status >= 500 || answer.transient() => (
                "the portal answers with errors",
                "look at the portal's status page; it is asked again by itself",
            ),
            Failure::Answer(_) if matches!(self.endpoint, Some(Endpoint::Private(_))) => (
                "the portal refuses what the operator named",
                "compare path, verb and body of this source with what the portal's own page asks, or set enabled: false",
            ),
            Failure::Answer(_) => (
                "the portal refuses requests",
                "check base_url, organizations and what narrows the source; else ask ThreatLocker's support",
            ),
            Failure::Rejected { .. } => TOKEN_REFUSED,
            Failure::MissingRole(_) => ("a role is missing", "tick its permission in the API user's role"),
            Failure::TooLarge { .. } | Failure::Undecodable { .. } => (
                "the portal's answers cannot be read",
                "check that base_url leads to the portal and that nothing else answers in its place",
            ),
            Failure::Credential(_) => ("the token cannot be read", "check its file or variable"),
            Failure::UnknownOrganization(_) => (
                "nothing tells whose token it is",
                "set organization_id of this site, or tick \"View Computers\" in the API user's role",
            ),
            Failure::Settings(_) | Failure::NoOrganization => {
                ("the portal cannot be asked as configured", "change the settings of this site")
            }
        }
    }

    /// The status with which the portal answered, if it did.
    pub fn status(&self) -> Option<u16> {
        match &self.failure {
            Failure::Answer(answer) | Failure::MissingRole(answer) | Failure::Rejected { answer, .. } => {
                Some(answer.status)
            }
            _ => None,
        }
    }

    /// Whether this path does not exist on this version of the portal, so that a fallback is worth a try.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.failure, Failure::Answer(answer) if answer.status == 404)
    }

    /// Whether the portal answered, and with an error.
    pub fn is_answer(&self) -> bool {
        matches!(&self.failure, Failure::Answer(_))
    }

    fn place(endpoint: &Option<Endpoint>) -> String {
        endpoint.map_or_else(String::new, |endpoint| format!(": {}", endpoint.path()))
    }
}

/// An answer that is no page: its status and the little of its body that is fit to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, or the one inside an error object that came with 200.
    pub status: u16,
    /// The portal's text: one line, bounded, without control characters and without our token.
    pub message: String,
    /// The portal's id of the incident, for its support.
    pub logger_id: Option<String>,
    /// The page size that was asked for.
    pub page_size: Option<u64>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the portal answered {}", self.status)?;
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        match &self.logger_id {
            Some(id) => write!(f, " [LoggerId {id}]"),
            None => Ok(()),
        }
    }
}

/// The error bodies of contract section 8.1: the portal's own and RFC 9110 problem documents.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    #[serde(rename = "LoggerId", alias = "loggerId")]
    logger_id: serde_json::Value,
    #[serde(rename = "StatusCode", alias = "statusCode")]
    status: serde_json::Value,
    #[serde(rename = "Message", alias = "message")]
    message: serde_json::Value,
    title: serde_json::Value,
    errors: serde_json::Value,
}

impl Answer {
    /// Reads an answer that is no page. `secret` never gets into it, even when the portal echoes it.
    pub(crate) fn read(status: u16, body: &[u8], page_size: Option<u64>, secret: &str) -> Self {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let parsed = serde_json::from_slice::<ErrorBody>(body);
        let (status, message, logger_id) = match parsed {
            Ok(error) => {
                let inner = error.status.as_u64().and_then(|inner| u16::try_from(inner).ok());
                let status = if (200..300).contains(&status) { inner.unwrap_or(500) } else { status };
                let texts = [error.message, error.title, error.errors];
                let message =
                    texts.iter().filter(|text| !text.is_null()).map(text_of).collect::<Vec<_>>().join(" ");
                (status, message, error.logger_id.as_str().map(|id| clean(id, secret)))
            }
            // Markup says nothing that the status does not.
            Err(_) if body.trim_ascii_start().starts_with(b"<") => (status, String::new(), None),
            Err(_) => (status, String::from_utf8_lossy(body).into_owned(), None),
        };
        Self { status, message: clean(&message, secret), logger_id, page_size }
    }

    /// Whether the portal refuses the token or a role (contract section 8.2: 403 and 440 alike).
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self.status, 401 | 403 | 440)
    }

    /// Whether the answer is about the token itself and not possibly about one permission.
    pub(crate) fn is_revocation(&self) -> bool {
        self.status == 440 || self.message.contains("TOKEN_REVOKED")
    }

    /// Whether the answer says which permission is missing, which the portal does only where it knows the token.
    pub(crate) fn names_a_permission(&self) -> bool {
        !self.is_revocation() && self.message.to_ascii_lowercase().contains("permission")
    }

    /// Whether the same request may work a moment later.
    pub(crate) fn transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 502 | 503 | 504)
    }
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One bounded line without control characters and without the secret.
pub(crate) fn clean(text: &str, secret: &str) -> String {
    // A token is hexadecimal, so a portal may well echo it in the other case.
    let lower = text.to_ascii_lowercase();
    let mut hidden = String::new();
    let mut rest = 0;
    if !secret.is_empty() {
        for (at, found) in lower.match_indices(&secret.to_ascii_lowercase()) {
            hidden.push_str(text.get(rest..at).unwrap_or_default());
            hidden.push_str("[token]");
            rest = at + found.len();
        }
    }
    hidden.push_str(text.get(rest..).unwrap_or_default());
    let spaced: String = hidden.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

fn shown(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn remedy(failure: Failure) -> Remedy {
        PortalError { site: "acme".into(), endpoint: Some(Endpoint::ComputersByParameters), failure }.remedy()
    }

    fn answered(status: u16, page_size: u64) -> Remedy {
        remedy(Failure::Answer(Answer { status, page_size: Some(page_size), ..Answer::default() }))
    }

    #[test]
    fn a_page_that_may_be_too_large_is_asked_again_smaller() {
        assert_eq!(answered(400, 1000), Remedy::SmallerPage);
        assert_eq!(remedy(Failure::TooLarge { limit: 1 }), Remedy::SmallerPage);
        assert_eq!(remedy(Failure::Undecodable { reason: String::new() }), Remedy::SmallerPage);
    }

    #[test]
    fn a_request_that_cannot_work_as_it_is_is_skipped() {
        for status in [400, 404, 417, 500, 302] {
            assert_eq!(answered(status, 500), Remedy::SkipPoll, "{status}");
        }
    }

    #[test]
    fn what_may_pass_is_retried() {
        for status in [408, 429, 502, 503, 504] {
            assert_eq!(answered(status, 500), Remedy::Retry { after: None }, "{status}");
        }
        let wait = Duration::from_secs(90);
        assert_eq!(remedy(Failure::Unreachable("reset".into())), Remedy::Retry { after: None });
        assert_eq!(
            remedy(Failure::Throttled { until: DateTime::UNIX_EPOCH, wait }),
            Remedy::Retry { after: Some(wait) }
        );
        assert_eq!(
            answered(401, 500),
            Remedy::Retry { after: None },
            "a probe without a result proves nothing"
        );
    }

    #[test]
    fn a_refused_token_is_renewed_and_a_refused_role_is_ticked() {
        let answer = Answer {
            status: 401,
            message: "Missing the 'View Computers' permission".into(),
            ..Answer::default()
        };
        let rejected = Failure::Rejected { answer: answer.clone(), next_probe: DateTime::UNIX_EPOCH };
        assert_eq!(remedy(rejected), Remedy::RenewToken);
        assert_eq!(remedy(Failure::MissingRole(answer.clone())), Remedy::MissingRole(answer.message));
    }

    #[test]
    fn a_wrong_configuration_stops() {
        assert_eq!(remedy(Failure::Settings("x".into())), Remedy::Stop);
        assert_eq!(remedy(Failure::NoOrganization), Remedy::Stop);
        assert_eq!(remedy(Failure::UnknownOrganization("x".into())), Remedy::Stop);
    }

    #[test]
    fn error_bodies_of_every_shape_give_a_message() {
        let read = |body: &str| Answer::read(400, body.as_bytes(), None, "");
        let own = read(r#"{"LoggerId":"53ba","StatusCode":403,"Message":"TOKEN_REVOKED"}"#);
        assert_eq!(
            (own.status, own.message.as_str(), own.logger_id.as_deref()),
            (400, "TOKEN_REVOKED", Some("53ba"))
        );
        assert!(own.is_revocation());
        let problem = read(r#"{"title":"One or more","status":400,"errors":{"$.pageSize":["bad"]}}"#);
        assert_eq!(problem.message, r#"One or more {"$.pageSize":["bad"]}"#);
        assert_eq!(read("<html>no</html>").message, "");
        assert_eq!(read(" plain\r\n text ").message, "plain text");
        assert_eq!(read("").message, "");
        assert_eq!(Answer::read(200, br#"{"StatusCode":500,"Message":"m"}"#, None, "").status, 500);
        assert_eq!(Answer::read(200, br#"{"Message":"m"}"#, None, "").status, 500);
    }

    #[test]
    fn the_message_names_site_endpoint_status_and_incident() {
        let answer = Answer {
            status: 500,
            message: "A problem".into(),
            logger_id: Some("53ba".into()),
            page_size: None,
        };
        let error = PortalError {
            site: "acme".into(),
            endpoint: Some(Endpoint::ComputersByParameters),
            failure: Failure::Answer(answer),
        };
        assert_eq!(
            error.to_string(),
            "site acme: Computer/ComputerGetByAllParameters: the portal answered 500 (A problem) [LoggerId 53ba]"
        );
    }

    proptest! {
        #[test]
        fn a_message_is_one_bounded_line_without_the_token(before in ".{0,400}", after in "\\PC{0,20}", control in any::<char>()) {
            let secret = "0123456789abcdef0123456789abcdef";
            let message = clean(&format!("{before}{control}{}{secret}{after}", secret.to_uppercase()), secret);
            prop_assert!(!message.to_lowercase().contains(secret));
            prop_assert!(message.chars().count() <= LONGEST_MESSAGE + 1 && !message.chars().any(char::is_control));
        }
    }
}
