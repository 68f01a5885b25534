//! An answer on its way out, and the ways in which it can be spoiled.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::clock::date;
use super::faults::Effect;
use crate::model::Micros;

/// An answer before it becomes HTTP.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The connection breaks in the middle of the body.
    pub cut: bool,
    /// The connection breaks in place of an answer.
    pub reset: bool,
}

impl Reply {
    /// `200` with JSON.
    pub fn json(body: Vec<u8>) -> Self {
        let content_type = "application/json; charset=utf-8";
        Self { status: 200, content_type, headers: Vec::new(), body, cut: false, reset: false }
    }

    pub fn html(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/html", ..Self::json(body.as_bytes().to_vec()) }
    }

    pub fn reset() -> Self {
        Self { reset: true, ..Self::json(Vec::new()) }
    }

    /// A problem document: the body's JSON does not bind (contract section 8.1).
    pub fn binding_failed() -> Self {
        let body = concat!(
            r#"{"type":"https://tools.ietf.org/html/rfc9110#section-15.5.1","#,
            r#""title":"One or more validation errors occurred.","status":400,"#,
            r#""errors":{"$":["The JSON value could not be converted."]},"traceId":"00-1-1-00"}"#
        );
        let content_type = "application/problem+json; charset=utf-8";
        Self { status: 400, content_type, ..Self::json(body.as_bytes().to_vec()) }
    }

    /// Does to a good answer what a fault says.
    pub fn spoil(&mut self, effect: &Effect) {
        match effect {
            Effect::CutBody => self.cut = true,
            Effect::TruncatedJson => self.body.truncate(self.body.len() / 2),
            Effect::Html => *self = Self::html(200, "<html><body>Please sign in</body></html>"),
            Effect::ErrorObject => {
                *self = Self::json(br#"{"StatusCode":500,"Message":"A problem occurred"}"#.to_vec());
            }
            Effect::RenamedField { field, name } => {
                let body = String::from_utf8_lossy(&self.body);
                self.body = body.replace(&format!("\"{field}\":"), &format!("\"{name}\":")).into_bytes();
            }
            _ => {}
        }
    }

    /// Compresses the body.
    pub fn compress(&mut self) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.body).expect("writing into memory does not fail");
        self.body = encoder.finish().expect("writing into memory does not fail");
        self.headers.push(("content-encoding", "gzip".to_owned()));
    }
}

/// A date as HTTP headers write it.
pub fn http_date(at: Micros) -> String {
    date(at).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
