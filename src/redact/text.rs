//! Finds values inside other text, in any casing and behind backslash escapes, names of profiles in paths, and
//! network addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use super::address::addresses;
use super::class::is_nobodys;

/// The fewest characters of a value that is looked for inside other text.
pub(super) const LEAST: usize = 3;
/// How often escapes are taken off: JSON in JSON in JSON.
const LEVELS: usize = 3;

/// What is known by where it stands or by its shape.
pub(super) enum Shape<'a> {
    /// The name of a profile in a path.
    Profile(&'a str),
    Address(IpAddr),
}

/// A text without differences of casing: `ß` and `SS` are the same, too.
pub(super) fn folded(text: &str) -> String {
    text.chars().flat_map(fold).collect()
}

fn fold(letter: char) -> impl Iterator<Item = char> {
    letter.to_uppercase().flat_map(char::to_lowercase)
}

/// Values to look for, each with what stands in its place.
#[derive(Debug, Default)]
pub(super) struct Needles {
    /// By folded value.
    whole: HashMap<String, String>,
    /// The folded values that begin with these letters, longest first.
    starts: HashMap<[char; LEAST], Vec<Vec<char>>>,
}

impl Needles {
    /// Adds a value; one of fewer than [`LEAST`] characters is too short to tell anything of other text.
    pub(super) fn add(&mut self, value: &str, stand_in: impl FnOnce() -> String) {
        let text = folded(value);
        let letters: Vec<char> = text.chars().collect();
        if value.chars().count() < LEAST || self.whole.contains_key(&text) {
            return;
        }
        if let Some(start) = letters.first_chunk::<LEAST>() {
            let known = self.starts.entry(*start).or_default();
            known.push(letters);
            known.sort_by_key(|letters| std::cmp::Reverse(letters.len()));
        }
        self.whole.insert(text, stand_in());
    }

    /// What stands for a value that is this text as a whole.
    pub(super) fn stand_in(&self, text: &str) -> Option<&str> {
        self.whole.get(&folded(text)).map(String::as_str)
    }

    /// The text with something else in place of every value, and of every shape that `shape` gives something for;
    /// none where nothing is found.
    pub(super) fn replace(&self, text: &str, shape: impl Fn(Shape<'_>) -> Option<String>) -> Option<String> {
        let mut found: Vec<(Range<usize>, String)> = Vec::new();
        for name in profiles(text) {
            if let Some(stand_in) = text.get(name.clone()).and_then(|name| shape(Shape::Profile(name))) {
                found.push((name, stand_in));
            }
        }
        let may_hold_address = text.contains(['.', ':']);
        if !self.whole.is_empty() || may_hold_address {
            let mut view = View::of(text);
            for _ in 0..=LEVELS {
                self.find(&view.folded(), &mut found);
                if may_hold_address {
                    for (place, address) in addresses(&view.letters) {
                        let stand_in = shape(Shape::Address(address));
                        found.extend(stand_in.map(|stand_in| (view.written(place), stand_in)));
                    }
                }
                match view.unescaped() {
                    Some(inner) => view = inner,
                    None => break,
                }
            }
        }
        if found.is_empty() {
            return None;
        }
        // Of what begins at one place the longest counts; what overlaps goes with the first.
        found.sort_by_key(|(place, _)| (place.start, std::cmp::Reverse(place.end)));
        let (mut out, mut end) = (String::with_capacity(text.len()), 0);
        for (place, stand_in) in found {
            if place.start >= end {
                out.push_str(text.get(end..place.start).unwrap_or_default());
                out.push_str(&stand_in);
            }
            end = end.max(place.end);
        }
        out.push_str(text.get(end..).unwrap_or_default());
        Some(out)
    }

    fn find(&self, view: &View, found: &mut Vec<(Range<usize>, String)>) {
        let mut at = 0;
        while let Some(start) = view.letters.get(at..).and_then(<[char]>::first_chunk::<LEAST>) {
            let rest = view.letters.get(at..).unwrap_or_default();
            let known =
                self.starts.get(start).into_iter().flatten().find(|letters| rest.starts_with(letters));
            match known {
                Some(letters) => {
                    let value: String = letters.iter().collect();
                    let stand_in = self.whole.get(&value).cloned().unwrap_or_default();
                    found.push((view.written(at..at + letters.len()), stand_in));
                    at += letters.len();
                }
                None => at += 1,
            }
        }
    }
}

/// A text as it is read, each letter with its place in the text as it is written.
struct View {
    letters: Vec<char>,
    places: Vec<Range<usize>>,
}

impl View {
    fn of(text: &str) -> Self {
        let letters = text.chars().collect();
        let places = text.char_indices().map(|(at, letter)| at..at + letter.len_utf8()).collect();
        Self { letters, places }
    }

    /// The place of some letters, at least one, in the text as it is written.
    fn written(&self, letters: Range<usize>) -> Range<usize> {
        self.places[letters.start].start..self.places[letters.end - 1].end
    }

    fn folded(&self) -> Self {
        let mut view = Self {
            letters: Vec::with_capacity(self.letters.len()),
            places: Vec::with_capacity(self.letters.len()),
        };
        for (letter, place) in self.letters.iter().zip(&self.places) {
            for letter in fold(*letter) {
                view.letters.push(letter);
                view.places.push(place.clone());
            }
        }
        view
    }

    /// With one level of JSON's escapes taken off; none where there is none.
    fn unescaped(&self) -> Option<Self> {
        if !self.letters.contains(&'\\') {
            return None;
        }
        let mut view = Self { letters: Vec::new(), places: Vec::new() };
        let (mut at, mut any) = (0, false);
        while let Some(&letter) = self.letters.get(at) {
            let (letter, length) = self.escape(at).unwrap_or((letter, 1));
            any |= length > 1;
            view.letters.push(letter);
            view.places.push(self.written(at..at + length));
            at += length;
        }
        any.then_some(view)
    }

    /// The letter that an escape stands for, and the letters that it takes.
    fn escape(&self, at: usize) -> Option<(char, usize)> {
        if self.letters[at] != '\\' {
            return None;
        }
        let letter = match self.letters.get(at + 1)? {
            same @ ('\\' | '"' | '/') => *same,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let high = self.unit(at)?;
                if let Some(letter) = char::from_u32(high) {
                    return Some((letter, 6));
                }
                let low = self.unit(at + 6)?;
                let code = 0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff);
                let is_pair = high < 0xdc00 && (0xdc00..0xe000).contains(&low);
                return char::from_u32(code).filter(|_| is_pair).map(|letter| (letter, 12));
            }
            _ => return None,
        };
        Some((letter, 2))
    }

    /// The number of an escape such as `\u00e9`.
    fn unit(&self, at: usize) -> Option<u32> {
        let [backslash, u, digits @ ..] = self.letters.get(at..at + 6)? else { return None };
        if (*backslash, *u) != ('\\', 'u') {
            return None;
        }
        digits.iter().try_fold(0, |number, digit| Some(number << 4 | digit.to_digit(16)?))
    }
}

/// Folders that hold the profiles of users.
const HOMES: [&str; 4] = ["users", "home", "documents and settings", "docume~1"];

/// The places of names of profiles: `C:\Users\NAME\`, `/home/NAME/`, `/Users/NAME/`, however often a separator is
/// written.
pub(super) fn profiles(text: &str) -> Vec<Range<usize>> {
    let is_separator = |byte: u8| matches!(byte, b'\\' | b'/');
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if !is_separator(byte) {
            continue;
        }
        let begins = |home: &&&str| {
            let word = bytes.get(at..at + home.len());
            word.is_some_and(|word| word.eq_ignore_ascii_case(home.as_bytes()))
                && bytes.get(at + home.len()).copied().is_some_and(is_separator)
        };
        let Some(home) = HOMES.iter().find(begins) else { continue };
        let mut start = at + home.len();
        while bytes.get(start).copied().is_some_and(is_separator) {
            start += 1;
        }
        let rest = text.get(start..).unwrap_or_default();
        if let Some(length) = profile(rest, text.get(..start).unwrap_or_default()) {
            found.push(start..start + length);
            at = start + length;
        }
    }
    found
}

/// The length of the name with which `rest` begins. A name may hold blanks; where the path ends with it and the
/// text may go on with something else, it is taken to end at the first.
fn profile(rest: &str, before: &str) -> Option<usize> {
    let ends = |letter: char| "\\/\"<>|:*?;,=&".contains(letter) || letter.is_control();
    let end = rest.find(ends).unwrap_or(rest.len());
    let name = rest.get(..end)?;
    let goes_on = rest.get(end..).is_some_and(|after| after.starts_with(['\\', '/', '"']));
    let alone = end == rest.len() && !before.contains(char::is_whitespace);
    let name = match goes_on || alone {
        true => name.trim_end(),
        false => name.split_whitespace().next()?,
    };
    let nobodys = name.is_empty() || name.starts_with(char::is_whitespace) || is_nobodys(&folded(name));
    (!nobodys).then_some(name.len())
}
