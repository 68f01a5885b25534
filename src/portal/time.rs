//! The portal's time: what its `Date` header said, carried on by the monotonic clock.

use std::sync::{Arc, Mutex};

use tokio::time::{Duration, Instant};

use crate::clock::Clock;
use crate::model::{Micros, SECOND};

/// What the portal's `Date` header says, carried on by our clock while it is silent.
///
/// Before the first answer it is our own clock. A header has whole seconds, so a later header corrects the
/// time only when the two differ by more than that.
#[derive(Clone)]
pub struct PortalTime {
    clock: Clock,
    heard: Arc<Mutex<Heard>>,
}

/// What the portal told, each with when it told it.
#[derive(Debug, Default)]
struct Heard {
    believed: Option<(Micros, Instant)>,
    /// A time far from the believed one, and how many answers in a row agreed on it.
    doubted: Option<((Micros, Instant), u32)>,
    /// The last header, and when it was first heard.
    header: Option<(Micros, Instant)>,
}

/// How far an answer may be from those before and be believed at once, in microseconds.
const TOLERANCE: u64 = 300_000_000;
/// For how long a header may be heard again; one that stands still for longer, of a cache or a broken clock, tells no time.
const STANDS_STILL: Duration = Duration::from_secs(3);
/// Answers that must agree on another time.
const AGREEING: u32 = 3;

impl PortalTime {
    pub fn new(clock: Clock) -> Self {
        Self { clock, heard: Arc::default() }
    }

    /// The portal's time now.
    pub fn now(&self) -> Micros {
        let heard = self.heard.lock().expect("no holder of the time panics").believed;
        heard.map_or_else(|| self.ours(), carried)
    }

    /// Whether the portal has ever told its time.
    pub fn heard(&self) -> bool {
        self.heard.lock().expect("no holder of the time panics").believed.is_some()
    }

    /// How far the portal's time is ahead of our clock; zero before it told.
    pub fn offset(&self) -> Micros {
        self.now() - self.ours()
    }

    /// Takes a `Date` header that arrived just now. One that is minutes away from what was heard before is
    /// believed when others agree: a proxy or one wrong machine must not move all ages of what is proven.
    pub fn hear(&self, date: Micros) {
        let mut heard = self.heard.lock().expect("no holder of the time panics");
        match heard.header {
            Some((header, first)) if header == date && first.elapsed() > STANDS_STILL => return,
            Some((header, _)) if header == date => {}
            _ => heard.header = Some((date, Instant::now())),
        }
        let near = |known: (Micros, Instant)| carried(known).abs_diff(date) <= TOLERANCE;
        let now = match heard.believed {
            Some(last) if near(last) => carried(last).clamp(date, date.saturating_add(SECOND - 1)),
            Some(_) => {
                let agreeing =
                    heard.doubted.filter(|(doubted, _)| near(*doubted)).map_or(0, |(_, count)| count) + 1;
                heard.doubted = Some(((date, Instant::now()), agreeing));
                if agreeing < AGREEING {
                    return;
                }
                date
            }
            None => date,
        };
        (heard.believed, heard.doubted) = (Some((now, Instant::now())), None);
    }

    /// Takes over what another has heard of the same portal.
    pub(crate) fn go_on_from(&self, before: &Self) {
        let heard = before.heard.lock().expect("no holder of the time panics").believed;
        let mut now = self.heard.lock().expect("no holder of the time panics");
        now.believed = now.believed.or(heard);
    }

    fn ours(&self) -> Micros {
        self.clock.now().timestamp_micros()
    }
}

fn carried((then, at): (Micros, Instant)) -> Micros {
    then.saturating_add(Micros::try_from(at.elapsed().as_micros()).unwrap_or(Micros::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Micros = SECOND / 2;

    #[test]
    fn the_time_is_ours_until_the_portal_tells_and_then_the_portals_while_it_is_silent() {
        let time = PortalTime::new(Clock::shifted(chrono::Duration::days(-2), 1));
        let ours = time.now();
        assert!(!time.heard() && time.offset().abs() < NEAR);
        let portal = ours + 2 * 86_400 * SECOND;
        time.hear(portal);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(time.heard());
        assert!((portal + 20_000..portal + NEAR).contains(&time.now()));
        assert!((time.offset() - 2 * 86_400 * SECOND).abs() < NEAR);
    }

    #[test]
    fn a_later_header_corrects_only_what_its_whole_seconds_contradict() {
        let time = PortalTime::new(Clock::system());
        time.hear(100 * SECOND);
        std::thread::sleep(std::time::Duration::from_millis(30));
        time.hear(100 * SECOND);
        assert!(time.now() >= 100 * SECOND + 30_000, "the same second again does not turn it back");
        time.hear(200 * SECOND);
        assert!((200 * SECOND..201 * SECOND).contains(&time.now()));
        time.hear(50 * SECOND);
        assert!((50 * SECOND..52 * SECOND).contains(&time.now()));
    }

    #[test]
    fn a_header_that_stands_still_does_not_stop_the_time() {
        let time = PortalTime::new(Clock::system());
        time.hear(100 * SECOND);
        std::thread::sleep(STANDS_STILL + Duration::from_millis(100));
        for _ in 0..2 * AGREEING {
            time.hear(100 * SECOND);
        }
        assert!(time.now() >= 103 * SECOND);
        time.hear(160 * SECOND);
        assert!((160 * SECOND..161 * SECOND).contains(&time.now()), "it moves again");
    }

    #[test]
    fn a_header_far_from_the_others_is_believed_when_more_agree() {
        let time = PortalTime::new(Clock::system());
        time.hear(100 * SECOND);
        for wrong in [90_000, 7_000, 90_000] {
            time.hear(wrong * SECOND);
            assert!(time.now() < 101 * SECOND, "{wrong} stands alone");
            time.hear(100 * SECOND);
        }
        for _ in 0..AGREEING {
            assert!(time.now() < 101 * SECOND);
            time.hear(7_000 * SECOND);
        }
        assert!((7_000 * SECOND..7_001 * SECOND).contains(&time.now()));
    }
}
