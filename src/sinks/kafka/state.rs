//! What the sink keeps in the state, what it keeps at Kafka, and what follows when the two differ.
//!
//! At Kafka, all positions of a sink are one record of a compacted topic, keyed by the transactional id and written in
//! the transaction of the records. It carries a *token*, drawn anew for each batch and saved here before the batch is
//! written. So the last record at Kafka has a token that this state knows, whatever crashed; a token that it does not
//! know was written by another instance with a copy of the state, or after the backup from which the state comes.

use serde::{Deserialize, Serialize};

use crate::model::{ConnectionId, Lane, Positions};
use crate::sinks::kafka::error::Trouble;

/// What this version writes.
const VERSION: u32 = 1;

/// Drawn for each batch.
pub(super) type Token = String;

/// The sink's state as `deliver` saves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    /// Found out at the first start, or as configured.
    pub(super) transactional: bool,
    /// What its transactional id ends in; drawn at the first start.
    pub(super) id: String,
    /// Of the last batch that is known to be committed.
    pub(super) written: Option<Token>,
    /// Of the batch that is being written.
    pub(super) writing: Option<Token>,
    /// Where the positions stand in their partition: reading begins there.
    pub(super) offset: Option<i64>,
}

/// The record of the positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    version: u32,
    pub(super) token: Token,
    /// Connection, lane and number.
    positions: Vec<(ConnectionId, i64, i64)>,
}

/// How the positions at Kafka stand to this state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Written with this state: they count.
    Theirs(Positions),
    /// There are none, and none are missing.
    None,
    /// There are none, although some were written. The word is what an operator accepts it with.
    Lost(String),
    /// Not written with this state.
    Foreign(String),
}

impl Saved {
    pub(super) fn new(id: String, transactional: bool) -> Self {
        Self { version: VERSION, transactional, id, written: None, writing: None, offset: None }
    }

    /// None at the first start.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Trouble> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let saved: Self = serde_json::from_slice(bytes).map_err(|error| Trouble::State(error.to_string()))?;
        known(saved.version)?;
        Ok(Some(saved))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values are always JSON")
    }

    /// What the positions found at Kafka mean for this state.
    pub(super) fn judge(&self, found: Option<&Told>) -> Judgement {
        let token = |known: &Option<Token>| known.clone().unwrap_or_default();
        let word = |theirs: &str| {
            let seen = format!("{} {} {theirs}", self.id, token(&self.written));
            blake3::hash(seen.as_bytes()).to_hex().get(..8).expect("a hash is longer").to_owned()
        };
        match found {
            None if self.written.is_none() => Judgement::None,
            None => Judgement::Lost(word("")),
            Some(told) if [&self.written, &self.writing].contains(&&Some(told.token.clone())) => {
                Judgement::Theirs(told.positions())
            }
            Some(told) => Judgement::Foreign(word(&told.token)),
        }
    }
}

impl Told {
    pub(super) fn new(token: Token, positions: &Positions) -> Self {
        let positions = positions
            .iter()
            .map(|((connection, lane), number)| (*connection, lane.code(), *number))
            .collect();
        Self { version: VERSION, token, positions }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, Trouble> {
        let told: Self = serde_json::from_slice(bytes).map_err(|error| Trouble::State(error.to_string()))?;
        known(told.version)?;
        match told.positions.iter().find(|(_, lane, _)| Lane::from_code(*lane).is_none()) {
            Some((_, lane, _)) => Err(Trouble::State(format!("lane {lane}"))),
            None => Ok(told),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values are always JSON")
    }

    fn positions(&self) -> Positions {
        let one = |(connection, lane, number): &(ConnectionId, i64, i64)| {
            Some(((*connection, Lane::from_code(*lane)?), *number))
        };
        self.positions.iter().filter_map(one).collect()
    }
}

fn known(version: u32) -> Result<(), Trouble> {
    if version > VERSION { Err(Trouble::State(format!("version {version}"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(token: &str) -> Told {
        Told::new(token.to_owned(), &Positions::from([((3, Lane::Live), 7), ((3, Lane::Backfill), 5)]))
    }

    fn saved(written: Option<&str>, writing: Option<&str>) -> Saved {
        let text = |token: Option<&str>| token.map(str::to_owned);
        Saved { written: text(written), writing: text(writing), ..Saved::new("id".to_owned(), true) }
    }

    #[test]
    fn positions_count_when_their_token_is_known_whatever_crashed() {
        let theirs = Judgement::Theirs(told("b").positions());
        assert_eq!(saved(Some("a"), Some("b")).judge(Some(&told("b"))), theirs);
        assert_eq!(saved(Some("b"), Some("c")).judge(Some(&told("b"))), theirs);
        assert_eq!(saved(None, Some("b")).judge(Some(&told("b"))), theirs);
        assert_eq!(saved(None, Some("b")).judge(None), Judgement::None);
    }

    #[test]
    fn what_another_instance_wrote_and_what_is_gone_is_told_and_each_has_a_word_of_its_own() {
        let mut words = Vec::new();
        for (state, found) in [
            (saved(Some("a"), Some("b")), Some("x")),
            (saved(Some("a"), Some("b")), Some("y")),
            (saved(None, None), Some("x")),
        ] {
            let judged = state.judge(found.map(told).as_ref());
            let Judgement::Foreign(word) = judged else { panic!("{judged:?}") };
            words.push(word);
        }
        for written in ["a", "b"] {
            let judged = saved(Some(written), None).judge(None);
            let Judgement::Lost(word) = judged else { panic!("{judged:?}") };
            words.push(word);
        }
        let all = words.len();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), all);
    }

    #[test]
    fn what_was_written_is_read_back_and_what_a_newer_version_wrote_is_refused() {
        let state = saved(Some("a"), None);
        assert_eq!(Saved::read(&state.bytes()).unwrap(), Some(state.clone()));
        assert_eq!(Saved::read(b"").unwrap(), None);
        assert_eq!(Told::read(&told("a").bytes()).unwrap(), told("a"));
        let newer =
            |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2");
        assert!(Saved::read(newer(state.bytes()).as_bytes()).is_err());
        assert!(Told::read(newer(told("a").bytes()).as_bytes()).is_err());
        assert!(Told::read(br#"{"version":1,"token":"a","positions":[[1,9,1]]}"#).is_err());
    }
}
