//! What all connections with the same credential share: pace, waits and the verdict on the token.
//!
//! The verdict keeps promise 6 of design.md: a rejected token is left alone but for a rare probe, and a
//! missing role blocks only its own endpoint. Times are monotonic here; [`Health`] is put into the portal's time
//! by whoever shows it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::Answer;
use super::own_reads::OwnReads;
use super::pace::Pace;
use super::{CredentialState, Endpoint, PageRequest};
use crate::model::Micros;

/// The credentials in use in this process, known by a keyed hash of host and token.
#[derive(Clone)]
pub struct Pacers {
    key: [u8; 32],
    known: Arc<Mutex<HashMap<[u8; 32], Weak<Credential>>>>,
}

impl Pacers {
    /// `key` keeps the hash from being guessed from outside; any 32 bytes that stay the same for the process do.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, known: Arc::default() }
    }

    /// The shared state of a token at a host. Where sites differ in what they wish, the slower rate and the
    /// smaller concurrency hold for all of them.
    pub(crate) fn credential(
        &self,
        host: &str,
        token: &SecretString,
        site: &str,
        wish: Wish,
    ) -> Arc<Credential> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(host.len() as u64).to_be_bytes()).update(host.as_bytes());
        hasher.update(token.expose_secret().as_bytes());
        let id = *hasher.finalize().as_bytes();
        let mut known = self.known.lock().expect("no holder of the registry panics");
        let credential = known.get(&id).and_then(Weak::upgrade).unwrap_or_else(|| {
            known.retain(|_, credential| credential.strong_count() > 0);
            let credential = Arc::new(Credential::new(wish));
            known.insert(id, Arc::downgrade(&credential));
            credential
        });
        credential.wish(site, Some(wish));
        credential
    }
}

/// What a site wishes of a credential.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wish {
    /// Requests a second; `None` for any number.
    pub(crate) per_second: Option<f64>,
    pub(crate) concurrent: usize,
}

/// One token at one host.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) pace: Pace,
    /// Requests in flight; waiters go in order of arrival.
    pub(crate) slots: Arc<Semaphore>,
    wishes: Mutex<Wishes>,
    /// Held while a refusal is judged, so that many streams refused at once cost one probe.
    pub(crate) judging: tokio::sync::Mutex<()>,
    pub(crate) own_reads: OwnReads,
    state: Mutex<State>,
}

/// What each site wishes, and how many slots there are by now.
#[derive(Debug)]
struct Wishes {
    of: BTreeMap<String, Wish>,
    slots: usize,
}

#[derive(Debug)]
struct State {
    verdict: Verdict,
    since: Instant,
    /// The last request that worked for each endpoint, the newest first.
    worked: Vec<PageRequest>,
    last_success: Option<Instant>,
    wait_until: Option<Instant>,
    requests: u64,
    throttled: u64,
}

#[derive(Clone, Debug)]
enum Verdict {
    Untested,
    Works,
    Rejected { answer: Answer, probes: usize, next: Instant, tried: Vec<Endpoint> },
}

/// Whether a request may go out.
#[derive(Debug)]
pub(crate) enum Admission {
    Open,
    /// A probe is due, and the request itself is it.
    ProbeItself,
    /// A probe is due: this request, which worked before.
    Probe(PageRequest),
    Shut,
}

/// What is known when a request was refused.
#[derive(Debug)]
pub(crate) enum Evidence {
    /// Something else worked meanwhile.
    Works,
    /// Another endpoint worked before; try it.
    Try(PageRequest),
    /// The token is rejected already, or nothing else ever worked.
    Nothing,
}

/// A picture of a credential, times still monotonic.
pub(crate) struct Health {
    pub(crate) state: CredentialState,
    pub(crate) since: Instant,
    pub(crate) last_success: Option<Instant>,
    pub(crate) next_probe: Option<Instant>,
    pub(crate) wait_until: Option<Instant>,
    pub(crate) requests: u64,
    pub(crate) throttled: u64,
}

impl Credential {
    fn new(wish: Wish) -> Self {
        let state = State {
            verdict: Verdict::Untested,
            since: Instant::now(),
            worked: Vec::new(),
            last_success: None,
            wait_until: None,
            requests: 0,
            throttled: 0,
        };
        Self {
            pace: Pace::new(wish.per_second),
            slots: Arc::new(Semaphore::new(wish.concurrent)),
            wishes: Mutex::new(Wishes { of: BTreeMap::new(), slots: wish.concurrent }),
            judging: tokio::sync::Mutex::default(),
            own_reads: OwnReads::default(),
            state: Mutex::new(state),
        }
    }

    /// Notes what a site wishes, or that it wishes nothing any more, and does what all of them allow.
    pub(crate) fn wish(&self, site: &str, wish: Option<Wish>) {
        let mut wishes = self.wishes.lock().expect("no holder of the wishes panics");
        match wish {
            Some(wish) if wishes.of.get(site) == Some(&wish) => {}
            Some(wish) => drop(wishes.of.insert(site.to_owned(), wish)),
            None => drop(wishes.of.remove(site)),
        }
        let Some(concurrent) = wishes.of.values().map(|wish| wish.concurrent).min() else { return };
        let rates = wishes.of.values().filter_map(|wish| wish.per_second);
        self.pace.set(rates.min_by(f64::total_cmp));
        if concurrent > wishes.slots {
            self.slots.add_permits(concurrent - wishes.slots);
            wishes.slots = concurrent;
        } else {
            // Slots in use now cannot be taken back; those that are free can, and the rest is tried next time.
            wishes.slots -= self.slots.forget_permits(wishes.slots - concurrent);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }

    /// Asks for leave to send a request. A due probe is handed out once; the next is due after `delays`.
    pub(crate) fn admit(&self, endpoint: Endpoint, delays: &[Duration]) -> Admission {
        let mut state = self.state();
        let worked = state.worked.clone();
        let Verdict::Rejected { answer, probes, next, tried } = &mut state.verdict else {
            return Admission::Open;
        };
        let now = Instant::now();
        if now >= *next {
            *probes += 1;
            *next = now + delay(delays, *probes);
            tried.clear();
            // Each probe takes another endpoint that worked, and in its turn the request at hand: the roles of
            // those that worked may be gone while another was ticked.
            match worked.get((*probes - 1) % (worked.len() + 1)) {
                Some(probe) => return Admission::Probe(probe.clone()),
                None => {
                    tried.push(endpoint);
                    return Admission::ProbeItself;
                }
            }
        }
        // Where nothing ever worked, the refusal may mean one role, so every endpoint gets its own try.
        if worked.is_empty() && !tried.contains(&endpoint) && !answer.is_revocation() {
            tried.push(endpoint);
            return Admission::ProbeItself;
        }
        Admission::Shut
    }

    /// The refusal that holds now and when the next probe is due.
    pub(crate) fn rejection(&self) -> Option<(Answer, Instant)> {
        match &self.state().verdict {
            Verdict::Rejected { answer, next, .. } => Some((answer.clone(), *next)),
            _ => None,
        }
    }

    /// What speaks for the token after `endpoint`, asked at `started`, was refused.
    pub(crate) fn evidence(&self, endpoint: Endpoint, started: Instant) -> Evidence {
        let state = self.state();
        if state.last_success.is_some_and(|success| success > started) {
            return Evidence::Works;
        }
        if matches!(state.verdict, Verdict::Rejected { .. }) {
            return Evidence::Nothing;
        }
        match state.worked.iter().find(|request| request.endpoint != endpoint) {
            Some(request) => Evidence::Try(request.clone()),
            None => Evidence::Nothing,
        }
    }

    pub(crate) fn succeeded(&self, request: &PageRequest) {
        let now = Instant::now();
        let mut state = self.state();
        if !matches!(state.verdict, Verdict::Works) {
            state.verdict = Verdict::Works;
            state.since = now;
        }
        state.last_success = Some(now);
        // A whole report is no probe, and a question about one request for approval is none either.
        if request.endpoint.is_streamed() || request.endpoint == Endpoint::MatchingApplications {
            return;
        }
        state.worked.retain(|other| other.endpoint != request.endpoint);
        state.worked.insert(0, request.clone());
    }

    /// Notes that the token is refused; a rejection that holds already keeps its probes.
    pub(crate) fn reject(&self, endpoint: Endpoint, answer: &Answer, delays: &[Duration]) {
        let mut state = self.state();
        if let Verdict::Rejected { answer: held, .. } = &mut state.verdict {
            *held = answer.clone();
            return;
        }
        let now = Instant::now();
        state.since = now;
        let next = now + delay(delays, 0);
        state.verdict = Verdict::Rejected { answer: answer.clone(), probes: 0, next, tried: vec![endpoint] };
    }

    /// All requests of the credential wait until `until` at least.
    pub(crate) fn hold(&self, until: Instant) {
        let mut state = self.state();
        state.throttled += 1;
        state.wait_until = state.wait_until.max(Some(until));
    }

    /// Until when requests have to wait, if they have to.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.state().wait_until.filter(|until| *until > Instant::now())
    }

    /// A request goes out; `now` is the portal's time, where it is known.
    pub(crate) fn count_request(&self, now: Option<Micros>) {
        self.state().requests += 1;
        if let Some(now) = now {
            self.own_reads.sent(now);
        }
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state();
        let (word, next_probe) = match &state.verdict {
            Verdict::Untested => (CredentialState::Untested, None),
            Verdict::Works => (CredentialState::Ok, None),
            Verdict::Rejected { next, .. } => (CredentialState::Rejected, Some(*next)),
        };
        Health {
            state: word,
            since: state.since,
            last_success: state.last_success,
            next_probe,
            wait_until: state.wait_until.filter(|until| *until > Instant::now()),
            requests: state.requests,
            throttled: state.throttled,
        }
    }
}

fn delay(delays: &[Duration], probes: usize) -> Duration {
    delays.get(probes).or(delays.last()).copied().unwrap_or(Duration::from_secs(1800))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacers() -> Pacers {
        Pacers::new([7; 32])
    }

    #[test]
    fn a_credential_is_shared_by_host_and_token() {
        let pacers = pacers();
        let wish = Wish { per_second: Some(5.0), concurrent: 2 };
        let get = |host: &str, token: &str| pacers.credential(host, &SecretString::from(token), "acme", wish);
        let one = get("h", "ab");
        assert!(Arc::ptr_eq(&one, &get("h", "ab")));
        let others = [get("h", "ac"), get("ha", "b")];
        assert!(others.iter().all(|other| !Arc::ptr_eq(&one, other)) && !Arc::ptr_eq(&others[0], &others[1]));
        assert_eq!(pacers.known.lock().unwrap().len(), 3);
        drop((one, others));
        let _kept = get("h", "new");
        assert_eq!(pacers.known.lock().unwrap().len(), 1, "credentials out of use are forgotten");
    }

    #[test]
    fn the_least_of_all_wishes_holds_and_ends_with_the_site_that_had_it() {
        let pacers = pacers();
        let get = |site: &str, per_second, concurrent| {
            let wish = Wish { per_second, concurrent };
            pacers.credential("h", &SecretString::from("t"), site, wish)
        };
        let one = get("one", None, 4);
        let holds = |seconds: f64, slots| {
            assert_eq!(one.slots.available_permits(), slots);
            assert!((one.pace.spacing().as_secs_f64() - seconds).abs() < 1e-9, "{:?}", one.pace.spacing());
        };
        holds(0.0, 4);
        let _same = (get("two", Some(10.0), 2), get("three", Some(5.0), 3));
        holds(0.2, 2);
        one.wish("three", None);
        holds(0.1, 2);
        let _same = get("two", Some(20.0), 6);
        holds(0.05, 4);
        let busy: Vec<_> = (0..3).map(|_| one.slots.clone().try_acquire_owned().unwrap()).collect();
        let _same = get("one", None, 1);
        holds(0.05, 0);
        drop(busy);
        let _same = get("one", None, 1);
        holds(0.05, 1);
    }

    #[test]
    fn probes_come_after_the_delays_and_the_last_delay_repeats() {
        let delays = [1, 5, 15, 30].map(|minutes| Duration::from_secs(minutes * 60));
        let minutes: Vec<_> = (0..6).map(|probes| delay(&delays, probes).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 5, 15, 30, 30, 30]);
    }
}
