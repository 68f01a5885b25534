//! How a thing that is listed as a whole went on: its states by time.

use std::collections::BTreeMap;

use crate::model::Micros;

/// Every state that a thing ever has, each from a moment on.
#[derive(Clone, Debug)]
pub struct Story<S> {
    /// Several of one moment keep their order.
    states: BTreeMap<(Micros, u32), S>,
}

impl<S: Clone + PartialEq> Story<S> {
    pub fn new(from: Micros, first: S) -> Self {
        Self { states: BTreeMap::from([((from, 0), first)]) }
    }

    /// What it is at a moment; nothing before it began.
    pub fn at(&self, now: Micros) -> Option<&S> {
        self.states.range(..=(now, u32::MAX)).next_back().map(|(_, state)| state)
    }

    /// Lets it be something else from a moment on.
    pub fn change(&mut self, at: Micros, change: impl FnOnce(&mut S)) {
        let Some(mut state) = self.at(at).cloned() else { return };
        change(&mut state);
        let place = self.states.range((at, 0)..=(at, u32::MAX)).next_back().map_or(0, |((_, n), _)| n + 1);
        self.states.insert((at, place), state);
    }

    /// The states that a reader could have seen until `now`, with the moment each began.
    pub fn until(&self, now: Micros) -> Vec<(Micros, S)> {
        let mut told: Vec<(Micros, S)> = Vec::new();
        for ((at, _), state) in self.states.range(..=(now, u32::MAX)) {
            match told.last_mut() {
                Some(last) if last.0 == *at => last.1 = state.clone(),
                Some(last) if last.1 == *state => {}
                _ => told.push((*at, state.clone())),
            }
        }
        told
    }
}
