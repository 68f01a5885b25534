//! Finds network addresses by their shape, wherever they stand as a word of their own in a text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// The most letters of an address.
const LONGEST: usize = 45;

/// The places of all addresses, in letters.
pub(super) fn addresses(letters: &[char]) -> Vec<(Range<usize>, IpAddr)> {
    let longer = runs(letters, |letter| letter.is_ascii_hexdigit() || letter == ':');
    let mut found: Vec<_> = longer.filter_map(|run| ipv6(letters, run)).collect();
    found.extend(runs(letters, is_dotted).filter_map(|run| ipv4(letters, run)));
    found
}

fn is_dotted(letter: char) -> bool {
    letter.is_ascii_digit() || letter == '.'
}

/// The longest runs of letters of a kind.
fn runs(letters: &[char], of: impl Fn(char) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = letters.get(at..)?;
        let start = at + rest.iter().position(|letter| of(*letter))?;
        at = letters
            .iter()
            .skip(start)
            .position(|letter| !of(*letter))
            .map_or(letters.len(), |end| start + end);
        Some(start..at)
    })
}

/// Whether a word goes on with the letter at a place.
fn is_word(letter: Option<&char>) -> bool {
    letter.is_some_and(char::is_ascii_alphanumeric)
}

/// Takes the dots off both ends, such as that of a sentence.
fn without_dots(letters: &[char], mut run: Range<usize>) -> Range<usize> {
    while letters.get(run.clone()).is_some_and(|run| run.first() == Some(&'.')) {
        run.start += 1;
    }
    while letters.get(run.clone()).is_some_and(|run| run.last() == Some(&'.')) {
        run.end -= 1;
    }
    run
}

/// Four numbers of up to 255 that are no part of more: a version of five parts is none, nor is `v1.2.3.4`.
fn ipv4(letters: &[char], run: Range<usize>) -> Option<(Range<usize>, IpAddr)> {
    let run = without_dots(letters, run);
    if is_word(letters.get(..run.start)?.last()) || is_word(letters.get(run.end)) || run.len() > LONGEST {
        return None;
    }
    let text: String = letters.get(run.clone())?.iter().collect();
    let parts = text.split('.').map(|part| part.parse().ok().filter(|_| part.len() <= 3));
    let octets: [u8; 4] = parts.collect::<Option<Vec<u8>>>()?.try_into().ok()?;
    Some((run, Ipv4Addr::from(octets).into()))
}

/// In any writing. What stands before it, such as `eth0:`, and a port behind it are no part of it.
fn ipv6(letters: &[char], run: Range<usize>) -> Option<(Range<usize>, IpAddr)> {
    let Range { mut start, mut end } = run;
    let colon = |place: Range<usize>| letters.get(place)?.iter().position(|letter| *letter == ':');
    let last_colon = |place: Range<usize>| letters.get(place)?.iter().rposition(|letter| *letter == ':');
    if is_word(letters.get(..start)?.last()) {
        start += colon(start..end)? + 1;
    }
    if is_word(letters.get(end)) {
        end = start + last_colon(start..end)?;
    }
    if letters.get(start) == Some(&':') && letters.get(start + 1) != Some(&':') {
        start += 1;
    }
    if end >= start + 2 && letters[end - 1] == ':' && letters[end - 2] != ':' {
        end -= 1;
    }
    // `::ffff:192.0.2.7`
    let rest = letters.iter().skip(end).take_while(|letter| is_dotted(**letter)).count();
    let dotted = without_dots(letters, start..end + rest).end;
    for end in [dotted, end] {
        if let Some(address) = parsed(letters.get(start..end)?) {
            return Some((start..end, address.into()));
        }
    }
    let groups = letters.get(start..end)?.split(|letter| *letter == ':');
    if groups.clone().count() == 9 {
        let first_is_word = groups.clone().next()?.iter().all(char::is_ascii_alphabetic);
        match first_is_word {
            true => start += colon(start..end)? + 1,
            false => end = start + last_colon(start..end)?,
        }
        return parsed(letters.get(start..end)?).map(|address| (start..end, address.into()));
    }
    None
}

/// None also for `::`, which stands in programs, too, and for what is rather a name there, such as `::add`.
fn parsed(letters: &[char]) -> Option<Ipv6Addr> {
    let is_name = letters.starts_with(&[':', ':']) && !letters.iter().any(char::is_ascii_digit);
    if letters.len() > LONGEST || is_name {
        return None;
    }
    letters.iter().collect::<String>().parse().ok()
}
