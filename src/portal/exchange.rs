//! One request as it goes over the wire: its turn, its tries, its headers and its answer within the budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use super::body::{Body, Coding, Refused, STEP};
use super::credential::Credential;
use super::error::{Answer, Failure, clean};
use super::page::Unreadable;
use super::streamed::{self, Reading, Rest};
use super::{Page, PageRequest, Portal, page, retry};
use crate::budget::Reservation;
use crate::reach::chain;

/// Bytes of an answer that is no page.
const LONGEST_ERROR: u64 = 16 * 1024;

/// How one try ended without a page.
enum Trouble {
    Final(Failure),
    /// The same request may work later; `wait` is what the portal asks for.
    Passing {
        failure: Failure,
        wait: Option<Duration>,
    },
    /// There was no memory for so large an answer: everything is let go, to come back with `need` reserved.
    Outgrown {
        need: u64,
    },
}

impl Portal {
    /// Sends a request until it has an answer that another try cannot better.
    pub(super) async fn persist(
        &self,
        credential: &Credential,
        token: &SecretString,
        request: &PageRequest,
        probing: bool,
    ) -> Result<Page, Failure> {
        let settings = &self.0.settings;
        let mut need = match request.endpoint.is_streamed() {
            true => streamed::ROOM,
            false => self.0.usual_size.load(Ordering::Relaxed).max(STEP).min(settings.body_limit),
        };
        let mut attempt = 0;
        loop {
            let trouble = match self.attempt(credential, token, request, probing, need).await {
                Ok(page) => return Ok(page),
                Err(trouble) => trouble,
            };
            let (failure, mut wait) = match trouble {
                Trouble::Final(failure) => return Err(failure),
                Trouble::Outgrown { need: more } => {
                    need = more.min(settings.body_limit);
                    continue;
                }
                Trouble::Passing { failure, wait } => (failure, wait),
            };
            attempt += 1;
            // A 500 is mostly a missing member of the request and seldom passes (contract section 8.2).
            let opaque = matches!(&failure, Failure::Answer(answer) if answer.status == 500);
            let tries = if opaque { settings.attempts.min(2) } else { settings.attempts };
            let (first, longest) = (settings.backoff_first, settings.backoff_longest);
            let pause = retry::backoff(first, longest, attempt - 1, self.0.clock.fraction());
            if matches!(&failure, Failure::Answer(answer) if answer.status == 429) {
                wait = wait.or(Some(pause));
            }
            if let Some(wait) = wait {
                credential.hold(Instant::now() + wait);
            }
            tracing::debug!(endpoint = request.endpoint.path(), attempt, %failure, ?wait, ?pause, "no page");
            match wait {
                Some(wait) if attempt >= tries => return Err(self.throttled(wait)),
                None if attempt >= tries => return Err(failure),
                // The next try waits at the gate, with all others of the credential.
                Some(_) => {}
                None => tokio::time::sleep(pause).await,
            }
        }
    }

    /// One try, from waiting for its turn to the last byte.
    async fn attempt(
        &self,
        credential: &Credential,
        token: &SecretString,
        request: &PageRequest,
        probing: bool,
        need: u64,
    ) -> Result<Page, Trouble> {
        // The turn is taken last, with everything else in hand, so that a start is a start. Memory is waited for
        // while holding a slot: whoever holds memory needs no slot to give it back.
        let (slot, reservation) = loop {
            self.wait_while_held(credential).await.map_err(Trouble::Final)?;
            // While somebody's refusal is being judged, the others wait for the verdict instead of being refused too.
            if !probing {
                drop(credential.judging.lock().await);
            }
            let slots = Arc::clone(&credential.slots);
            let slot = slots.acquire_owned().await.expect("the slots are never closed");
            let reservation = self.0.budget.reserve(need).await;
            credential.pace.turn().await;
            let judged = probing || credential.judging.try_lock().is_ok();
            if judged && credential.held_until().is_none() {
                break (slot, reservation);
            }
        };
        if !probing && credential.rejection().is_some() {
            return Err(Trouble::Final(self.rejected(credential)));
        }
        credential.count_request(self.heard().then(|| self.now()));
        match timeout(request.timeout, self.exchange(credential, token, request, reservation)).await {
            Ok(Ok(mut page)) => {
                if let Some(rest) = page.rest.as_mut().filter(|rest| !rest.has_ended()) {
                    rest.hold(slot);
                }
                Ok(page)
            }
            Ok(Err(trouble)) => Err(trouble),
            Err(_) => {
                if request.endpoint.tells_pace() {
                    credential.pace.observe(request.timeout);
                }
                let failure = Failure::Unreachable(format!("time-out after {:?}", request.timeout));
                Err(Trouble::Passing { failure, wait: None })
            }
        }
    }

    async fn exchange(
        &self,
        credential: &Credential,
        token: &SecretString,
        request: &PageRequest,
        mut reservation: Reservation,
    ) -> Result<Page, Trouble> {
        let secret = token.expose_secret();
        let unreachable = |error: reqwest::Error| {
            let text = clean(&chain(&error.without_url()), secret);
            Trouble::Passing { failure: Failure::Unreachable(text), wait: None }
        };
        let sent = Instant::now();
        let mut response = self.built(secret, request).send().await.map_err(unreachable)?;
        let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
        // A gateway's clock is not the portal's.
        if let Some(date) = retry::date(&headers).filter(|_| !matches!(status, 407 | 502..=504)) {
            self.0.time.hear(date);
        }
        let page_size = page_size_of(request);
        if !(200..300).contains(&status) {
            let coding = Coding::of(&headers).unwrap_or(Coding::Plain);
            let limit = LONGEST_ERROR;
            let mut body = Body::new(coding, &mut reservation, 0, limit)
                .map_err(|refused| Trouble::of(refused, limit))?;
            // A line that breaks off ends it, too.
            while let Ok(Some(chunk)) = response.chunk().await
                && body.take(&chunk).is_ok()
            {}
            let body = body.beginning();
            let answer = Answer::read(status, &body, page_size, secret);
            // Measured from the answer's own date: whoever sent it, both are by the same clock.
            let now = retry::date(&headers).unwrap_or_else(|| self.now());
            let wait = retry::retry_after(&headers, now).filter(|_| answer.transient() || status == 500);
            return Err(match answer.transient() || status == 500 {
                true => Trouble::Passing { failure: Failure::Answer(answer), wait },
                false => Trouble::Final(Failure::Answer(answer)),
            });
        }
        if request.endpoint.tells_pace() {
            credential.pace.observe(sent.elapsed());
        }

        if request.endpoint.is_streamed() {
            return self.begin_reading(secret, request, &headers, response, reservation).await;
        }
        let limit = self.0.settings.body_limit;
        let unread = |reason: String| Trouble::Final(Failure::Undecodable { reason: clean(&reason, secret) });
        let coding = Coding::of(&headers).map_err(unread)?;
        let announced = response.content_length().unwrap_or(0);
        let refused = |refused| Trouble::of(refused, limit);
        let mut body = Body::new(coding, &mut reservation, announced, limit).map_err(refused)?;
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.take(&chunk).map_err(refused)?;
        }
        let mut body = body.finish().map_err(refused)?;

        // Without the spare room: the page keeps only what it is accounted for.
        body.shrink_to_fit();
        let usual = self.0.usual_size.load(Ordering::Relaxed);
        let length = body.len() as u64;
        self.0.usual_size.store((length + length / 4).max(usual - usual / 8), Ordering::Relaxed);
        let body = Bytes::from(body);
        let layout = match request.endpoint.is_single() {
            true => page::single(&body),
            false => page::layout(&body),
        };
        let layout = match layout {
            Ok(layout) => layout,
            Err(Unreadable::ErrorObject) => {
                return Err(match Answer::read(status, &body, page_size, secret) {
                    answer if answer.transient() || answer.status == 500 => {
                        Trouble::Passing { failure: Failure::Answer(answer), wait: None }
                    }
                    answer => Trouble::Final(Failure::Answer(answer)),
                });
            }
            Err(Unreadable::Broken(reason)) => return Err(Trouble::Final(Failure::Undecodable { reason })),
        };
        let paging = Paging::of(&headers);
        let index = layout.rows.len() * size_of::<(usize, usize)>();
        reservation.shrink((body.len() + index) as u64);
        Ok(Page {
            total: paging.total,
            page_size: paging.page_size,
            reservation: Some(reservation),
            ..Page::of(body, layout)
        })
    }

    /// The first batch of an answer, with what is left of it.
    async fn begin_reading(
        &self,
        secret: &str,
        request: &PageRequest,
        headers: &HeaderMap,
        response: reqwest::Response,
        reservation: Reservation,
    ) -> Result<Page, Trouble> {
        let reading = Reading {
            coding: Coding::of(headers)
                .map_err(|reason| Trouble::Final(Failure::Undecodable { reason: clean(&reason, secret) }))?,
            reservation,
            timeout: request.timeout,
            secret,
            site: &self.0.settings.site,
            endpoint: request.endpoint,
            status: response.status().as_u16(),
        };
        let paging = Paging::of(headers);
        let mut rest = Rest::new(response, reading);
        match rest.read().await {
            Ok(page) => {
                Ok(Page { total: paging.total, page_size: paging.page_size, rest: Some(rest), ..page })
            }
            Err(Failure::Answer(answer)) if answer.transient() || answer.status == 500 => {
                Err(Trouble::Passing { failure: Failure::Answer(answer), wait: None })
            }
            Err(failure @ Failure::Unreachable(_)) => Err(Trouble::Passing { failure, wait: None }),
            Err(failure) => Err(Trouble::Final(failure)),
        }
    }

    /// The request with its headers (contract section 1.2).
    fn built(&self, secret: &str, request: &PageRequest) -> reqwest::RequestBuilder {
        let inner = &self.0;
        let mut url = inner.api.join(request.endpoint.path()).expect("the paths are constants, or checked");
        let mut builder = if request.endpoint.is_get() {
            url.set_query(Some(&request.query).filter(|query| !query.is_empty()).map(String::as_str));
            inner.client.get(url)
        } else {
            inner.client.post(url).header(CONTENT_TYPE, "application/json").body(request.body.clone())
        };
        let mut authorization = HeaderValue::from_str(secret)
            .or_else(|_| HeaderValue::from_bytes(secret.as_bytes()))
            .expect("a secret is read without control characters");
        authorization.set_sensitive(true);
        let header = HeaderName::try_from(&inner.settings.header).unwrap_or(AUTHORIZATION);
        builder = builder
            .header(header, authorization)
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "gzip");
        if let Some(organization) = &request.organization {
            builder = builder
                .header("ManagedOrganizationId", organization.as_str())
                .header("OverrideManagedOrganizationId", organization.as_str());
        }
        if request.endpoint.uses_new_search() {
            builder = builder.header("usenewsearch", "true");
        }
        builder
    }

    /// Waits while the portal told this credential to wait, unless that is too long to block for.
    async fn wait_while_held(&self, credential: &Credential) -> Result<(), Failure> {
        while let Some(until) = credential.held_until() {
            let wait = until.saturating_duration_since(Instant::now());
            if wait > self.0.settings.longest_wait {
                return Err(self.throttled(wait));
            }
            sleep_until(until).await;
        }
        Ok(())
    }

    fn throttled(&self, wait: Duration) -> Failure {
        Failure::Throttled { until: self.utc(Instant::now() + wait), wait }
    }
}

impl Trouble {
    fn of(refused: Refused, limit: u64) -> Self {
        match refused {
            Refused::TooLarge => Self::Final(Failure::TooLarge { limit }),
            Refused::Outgrown(need) => Self::Outgrown { need },
            Refused::Damaged(why) => {
                let failure = Failure::Unreachable(format!("its body cannot be unpacked: {why}"));
                Self::Passing { failure, wait: None }
            }
        }
    }
}

/// The same request for its first row only.
pub(super) fn for_one_row(request: &PageRequest) -> PageRequest {
    let mut body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    if let Value::Object(members) = &mut body
        && !request.endpoint.is_streamed()
    {
        members.insert("pageSize".into(), 1.into());
        members.insert("pageNumber".into(), 1.into());
        return PageRequest { body: body.to_string().into(), ..request.clone() };
    }
    request.clone()
}

fn page_size_of(request: &PageRequest) -> Option<u64> {
    #[derive(Deserialize)]
    struct Size {
        #[serde(rename = "pageSize")]
        page_size: Option<u64>,
    }
    serde_json::from_slice::<Size>(&request.body).ok()?.page_size
}

/// What the paging headers say (contract section 1.6): one JSON header, or separate ones, or none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Paging {
    total: Option<u64>,
    page_size: Option<u64>,
}

impl Paging {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let json =
            text("pagination").and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default();
        let number = |name: &str| {
            let inside = &json[name];
            let inside = inside.as_u64().or_else(|| inside.as_str()?.trim().parse().ok());
            inside.or_else(|| text(name)?.trim().parse().ok())
        };
        // A number that cannot be says nothing.
        let number = |name: &str| number(name).filter(|number| i64::try_from(*number).is_ok());
        Self { total: number("totalItems"), page_size: number("itemsPerPage") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(headers: &[(&'static str, &str)]) -> (Option<u64>, Option<u64>) {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let paging = Paging::of(&HeaderMap::from_iter(headers));
        (paging.total, paging.page_size)
    }

    #[test]
    fn totals_come_from_one_header_or_from_separate_ones_or_not_at_all() {
        let whole = r#"{"currentPage":2,"itemsPerPage":500,"totalItems":1342,"totalPages":3}"#;
        assert_eq!(paging(&[("pagination", whole)]), (Some(1342), Some(500)));
        assert_eq!(paging(&[("Pagination", r#"{"totalItems":"7"}"#)]), (Some(7), None));
        assert_eq!(paging(&[("totalItems", "12"), ("totalPages", "1")]), (Some(12), None));
        assert_eq!(paging(&[("pagination", "broken"), ("totalItems", " 3 ")]), (Some(3), None));
        assert_eq!(paging(&[("pagination", r#"{"totalItems":-1}"#)]), (None, None));
        assert_eq!(paging(&[("pagination", r#"{"totalItems":9223372036854775808}"#)]), (None, None));
        assert_eq!(paging(&[]), (None, None));
    }
}
