//! One request after another, until the far side has all records of a line or says why not.

use std::sync::Arc;
use std::time::Duration;

use super::error::HttpError;
use super::exchange::Errand;
use super::hec::Channel;
use super::settings::Protocol;
use super::{bulk, hec, post};
use crate::sink::Refusal;

/// Pauses before what the far side had no room for is sent again; after the last one the batch has failed.
const PAUSES: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(4)];
/// When so many records were refused one by one and none was taken, the fault is not in them.
const TOO_MANY_ALONE: usize = 64;

/// What an answer means for the records of its request, each named by its place in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The far side has them, but for some.
    Taken {
        /// Never taken as they are, and why.
        refused: Vec<(usize, String)>,
        /// There was no room for them.
        again: Vec<usize>,
        /// Why there was none.
        full: String,
    },
    /// The far side takes nothing of it for the sake of one record: this one, if it says which.
    Guilty { place: Option<usize>, reason: String },
}

impl Verdict {
    /// The far side has all of it.
    pub(super) fn all() -> Self {
        Verdict::Taken { refused: Vec::new(), again: Vec::new(), full: String::new() }
    }
}

/// Records that go out one request after another, each named by its place in the batch.
pub(super) struct Line {
    errand: Arc<Errand>,
    report: Report,
    /// Sent, with the number by which the acknowledgement is asked for.
    unacknowledged: Vec<(u64, Vec<usize>)>,
}

/// What became of a line.
pub(super) struct Report {
    /// Which line it is.
    pub(super) number: usize,
    pub(super) channel: Channel,
    pub(super) taken: Vec<usize>,
    pub(super) refused: Vec<Refusal>,
    pub(super) outcome: Result<(), HttpError>,
    /// An answer meant "accepted" and no more.
    pub(super) accepted_only: bool,
}

impl Line {
    pub(super) fn new(errand: Arc<Errand>, number: usize, channel: Channel) -> Self {
        let (taken, refused) = (Vec::new(), Vec::new());
        let report = Report { number, channel, taken, refused, outcome: Ok(()), accepted_only: false };
        Self { errand, report, unacknowledged: Vec::new() }
    }

    pub(super) async fn run(mut self, records: Vec<usize>) -> Report {
        self.report.outcome = match self.send_all(records).await {
            Ok(()) => self.await_acknowledgements().await,
            // The numbers of what was sent before mean other records by now.
            Err(error @ HttpError::NumberedAnew { .. }) => Err(error),
            Err(error) => {
                // What was sent before is not sent again if it is indexed by now.
                drop(self.await_acknowledgements().await);
                Err(error)
            }
        };
        self.report
    }

    async fn send_all(&mut self, records: Vec<usize>) -> Result<(), HttpError> {
        let mut pieces = self.cut(records);
        let mut pauses = PAUSES.iter();
        while let Some(piece) = pieces.pop() {
            match self.exchange(&piece).await? {
                Verdict::Guilty { reason, .. } if piece.len() == 1 => self.refuse(piece[0], reason)?,
                Verdict::Guilty { place, .. } => pieces.extend(halves(piece, place)),
                Verdict::Taken { refused, again, full } => {
                    for (place, reason) in refused {
                        self.refuse(piece[place], reason)?;
                    }
                    if again.is_empty() {
                        continue;
                    }
                    let Some(pause) = pauses.next() else {
                        return Err(HttpError::Busy { to: self.errand.to(), answer: full, wait: None });
                    };
                    pieces.push(again.into_iter().map(|place| piece[place]).collect());
                    tokio::time::sleep(*pause).await;
                }
            }
        }
        Ok(())
    }

    /// Requests of at most the size that is wanted, the first one last.
    fn cut(&self, records: Vec<usize>) -> Vec<Vec<usize>> {
        let limit = usize::try_from(self.errand.settings.request_size).unwrap_or(usize::MAX);
        let mut pieces: Vec<Vec<usize>> = Vec::new();
        let mut size = 0;
        for place in records {
            let length = self.errand.batch.records[place].bytes.len();
            match pieces.last_mut() {
                Some(piece) if size + length <= limit => {
                    piece.push(place);
                    size += length;
                }
                _ => {
                    pieces.push(vec![place]);
                    size = length;
                }
            }
        }
        pieces.reverse();
        pieces
    }

    /// Sends a piece, and notes what the far side has of it.
    async fn exchange(&mut self, piece: &[usize]) -> Result<Verdict, HttpError> {
        let errand = &self.errand;
        let verdict = match &errand.settings.protocol {
            Protocol::Bulk(settings) => {
                let answer = errand.post(bulk::request(errand, settings, piece).await?).await?;
                bulk::judge(errand, &answer, piece.len())?
            }
            Protocol::Post(settings) => {
                let answer = errand.post(post::request(errand, settings, piece).await?).await?;
                post::judge(errand, &answer)?
            }
            Protocol::Hec(settings) => {
                let channel = &mut self.report.channel;
                let answer = errand.post(hec::request(errand, settings, channel, piece).await?).await?;
                let (verdict, ack) = hec::judge(errand, settings, channel, &answer)?;
                if let Some(ack) = ack {
                    self.unacknowledged.push((ack, piece.to_vec()));
                    return Ok(verdict);
                }
                self.report.accepted_only |= matches!(verdict, Verdict::Taken { .. });
                verdict
            }
        };
        if let Verdict::Taken { refused, again, .. } = &verdict {
            let left_out =
                |place: &usize| again.contains(place) || refused.iter().any(|(one, _)| one == place);
            let taken = (0..piece.len()).filter(|place| !left_out(place)).map(|place| piece[place]);
            self.report.taken.extend(taken);
        }
        Ok(verdict)
    }

    async fn await_acknowledgements(&mut self) -> Result<(), HttpError> {
        let Protocol::Hec(settings) = &self.errand.settings.protocol else { return Ok(()) };
        let sent = std::mem::take(&mut self.unacknowledged);
        hec::await_acknowledgements(
            &self.errand,
            settings,
            &self.report.channel,
            sent,
            &mut self.report.taken,
        )
        .await
    }

    fn refuse(&mut self, record: usize, reason: String) -> Result<(), HttpError> {
        let Report { taken, refused, .. } = &mut self.report;
        let none_taken = taken.is_empty() && self.unacknowledged.is_empty() && !self.errand.begun;
        if none_taken && refused.len() + 1 >= TOO_MANY_ALONE {
            return Err(HttpError::RefusesAll { to: self.errand.to(), refused: refused.len() + 1, reason });
        }
        refused.push(Refusal { record, reason });
        Ok(())
    }
}

/// A refused piece in smaller ones, the first of them last: what stands before and after the guilty record and that
/// one alone, or two halves where nobody knows which it is.
fn halves(mut piece: Vec<usize>, guilty: Option<usize>) -> Vec<Vec<usize>> {
    let mut pieces = match guilty.filter(|place| *place < piece.len()) {
        Some(place) => {
            let after = piece.split_off(place + 1);
            let guilty = piece.split_off(place);
            vec![after, guilty, piece]
        }
        None => {
            let second = piece.split_off(piece.len() / 2);
            vec![second, piece]
        }
    };
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_is_cut_in_the_order_of_its_records_and_none_is_left_out() {
        assert_eq!(halves(vec![1, 2, 3], None), [vec![2, 3], vec![1]]);
        assert_eq!(halves(vec![1, 2, 3, 4], Some(1)), [vec![3, 4], vec![2], vec![1]]);
        assert_eq!(halves(vec![1, 2], Some(0)), [vec![2], vec![1]]);
        assert_eq!(halves(vec![1, 2], Some(1)), [vec![2], vec![1]]);
        assert_eq!(halves(vec![1, 2], Some(7)), [vec![2], vec![1]], "a place that is not there");
    }
}
