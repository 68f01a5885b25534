//! Rows out of an answer that is too large to be held: split while it comes, a batch at a time.
//!
//! Knows what [`super::page`] knows of answers: a bare list, a list in an envelope, nothing, or an error object.

use std::io::{self, Write};

use serde_json::Value;
use serde_json::value::RawValue;

use super::page::{ENVELOPES, Unreadable, broken};

/// Bytes of rows from which a batch is full, and the most rows in it.
pub(super) const BATCH: usize = 256 << 10;
const MOST_ROWS: usize = 1_000;
/// The longest row, and the longest value beside the rows.
pub(super) const LONGEST_ROW: usize = 8 << 20;
/// Of an answer without rows so much is kept, to see what it is.
const LONGEST_ODD: usize = 16 << 10;
/// The mark of the byte order.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Columns of which is told; more are no table.
const MOST_COLUMNS: usize = 512;

/// Where in the answer the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before it.
    Start,
    /// In a list of rows; `inside`: of an object.
    List {
        inside: bool,
    },
    /// Between the members of the object, or in a key.
    Key,
    /// Behind a key, before its value.
    Colon,
    /// In the value of a member.
    Member,
    /// In something that is neither list nor object.
    Odd,
    End,
}

/// Takes in an answer piece by piece and gives its rows.
#[derive(Debug)]
pub(super) struct Splitter {
    place: Place,
    /// The row, key or value in hand.
    value: Vec<u8>,
    depth: u32,
    in_text: bool,
    escaped: bool,
    /// A comma came, so a row must follow.
    owes_row: bool,
    key: Vec<u8>,
    found_list: bool,
    /// Rows of the batch in hand, as they stand in `batch`.
    batch: Vec<u8>,
    rows: Vec<(usize, usize)>,
    undecodable: Vec<((usize, usize), String)>,
    /// The first bytes of an answer.
    beginning: Vec<u8>,
    columns: Vec<String>,
    error: Option<Unreadable>,
}

/// Rows that are complete.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) rows: Vec<(usize, usize)>,
    pub(super) undecodable: Vec<((usize, usize), String)>,
}

impl Splitter {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Start,
            value: Vec::new(),
            depth: 0,
            in_text: false,
            escaped: false,
            owes_row: false,
            key: Vec::new(),
            found_list: false,
            batch: Vec::new(),
            rows: Vec::new(),
            undecodable: Vec::new(),
            beginning: Vec::new(),
            columns: Vec::new(),
            error: None,
        }
    }

    /// Whether a batch is full.
    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH || self.rows.len() + self.undecodable.len() >= MOST_ROWS
    }

    /// Bytes held now.
    pub(super) fn held(&self) -> usize {
        self.value.capacity() + self.batch.capacity()
    }

    /// The rows that are complete by now.
    pub(super) fn take(&mut self) -> Batch {
        let bytes = std::mem::take(&mut self.batch);
        let (rows, undecodable) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.undecodable));
        if self.value.capacity() > BATCH {
            self.value.shrink_to(self.value.len());
        }
        Batch { bytes, rows, undecodable }
    }

    /// The columns that the answer names (contract section 3.2), once it has.
    pub(super) fn take_columns(&mut self) -> Vec<String> {
        std::mem::take(&mut self.columns)
    }

    /// The first bytes, for whoever reads an error out of them.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// Takes in what came next.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        let room = LONGEST_ODD.saturating_sub(self.beginning.len());
        self.beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        bytes.iter().try_for_each(|byte| self.byte(*byte))
    }

    /// No more comes: whether that was all of it.
    pub(super) fn finish(&mut self) -> Result<(), Unreadable> {
        match self.place {
            Place::End if self.found_list => Ok(()),
            Place::Start if self.value.is_empty() => Ok(()),
            Place::Odd if trimmed(&self.value) == b"null" => Ok(()),
            // An object without rows, which may be an error or say that there are none.
            Place::End => super::page::layout(&self.beginning).map(drop),
            Place::Odd => Err(broken("neither a list nor an object")),
            _ => Err(broken("cut off before its end")),
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), Unreadable> {
        let is_space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match self.place {
            Place::Start => match byte {
                0xef | 0xbb | 0xbf
                    if BOM.starts_with(&self.beginning[..self.beginning.len().min(BOM.len())]) => {}
                b'[' => self.enter(Place::List { inside: false }),
                b'{' => self.enter(Place::Key),
                _ if is_space => {}
                _ => {
                    self.place = Place::Odd;
                    self.value.push(byte);
                }
            },
            Place::List { inside } => {
                if let Some(end) = self.gather(byte, b']')? {
                    self.row(end == b',')?;
                    if end == b']' {
                        self.found_list = true;
                        self.place = if inside { Place::Key } else { Place::End };
                        self.owes_row = false;
                    }
                }
            }
            Place::Key if self.in_text => {
                if self.in_text(byte) {
                    self.push(byte)?;
                } else {
                    self.key = std::mem::take(&mut self.value);
                    self.place = Place::Colon;
                }
            }
            Place::Key => match byte {
                b'"' => self.in_text = true,
                b'}' => self.place = Place::End,
                b',' => {}
                _ if is_space => {}
                _ => return Err(broken("a member without a name")),
            },
            Place::Colon => match byte {
                b':' => self.enter(Place::Member),
                _ if is_space => {}
                _ => return Err(broken("a member without a value")),
            },
            Place::Member if self.value.is_empty() && is_space => {}
            Place::Member if self.value.is_empty() && byte == b'[' && self.is_list() => {
                self.enter(Place::List { inside: true });
            }
            Place::Member => {
                if let Some(end) = self.gather(byte, b'}')? {
                    self.member()?;
                    self.place = if end == b'}' { Place::End } else { Place::Key };
                }
            }
            Place::Odd => {
                if self.value.len() < LONGEST_ODD {
                    self.value.push(byte);
                }
            }
            Place::End if is_space => {}
            Place::End => return Err(broken("something after its end")),
        }
        Ok(())
    }

    fn enter(&mut self, place: Place) {
        self.place = place;
        self.value.clear();
        (self.depth, self.in_text, self.escaped) = (0, false, false);
    }

    /// Whether the member at hand holds the rows.
    fn is_list(&self) -> bool {
        let key = std::str::from_utf8(&self.key).unwrap_or_default();
        !self.found_list && ENVELOPES.iter().any(|name| name.eq_ignore_ascii_case(key))
    }

    /// Adds a byte to the value in hand; where it ends that value, what ended it.
    fn gather(&mut self, byte: u8, closing: u8) -> Result<Option<u8>, Unreadable> {
        if self.in_text {
            self.in_text(byte);
            self.push(byte)?;
            return Ok(None);
        }
        match byte {
            b'"' => self.in_text = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' if self.depth > 0 => self.depth -= 1,
            b',' if self.depth == 0 => return Ok(Some(byte)),
            b']' | b'}' if byte == closing => return Ok(Some(byte)),
            b']' | b'}' => return Err(broken("brackets that do not match")),
            _ => {}
        }
        self.push(byte)?;
        Ok(None)
    }

    /// Goes on inside a text; answers whether it goes on behind this byte.
    fn in_text(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_text = false,
            _ => {}
        }
        self.in_text
    }

    fn push(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.value.len() >= LONGEST_ROW {
            return Err(broken("a row or value that is too long to be one"));
        }
        self.value.push(byte);
        Ok(())
    }

    /// A row is complete, or the place of one is empty; `more`: a comma stands behind it.
    fn row(&mut self, more: bool) -> Result<(), Unreadable> {
        let row = trimmed(&self.value);
        if row.is_empty() {
            return match more || self.owes_row {
                true => Err(broken("an empty place in a list")),
                false => Ok(()),
            };
        }
        let start = self.batch.len();
        self.batch.extend_from_slice(row);
        let place = (start, self.batch.len());
        let judged = std::str::from_utf8(row)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str::<&RawValue>(text).map_err(|error| error.to_string()));
        match judged {
            Ok(_) => self.rows.push(place),
            Err(reason) => self.undecodable.push((place, reason)),
        }
        self.owes_row = more;
        self.value.clear();
        Ok(())
    }

    /// A member beside the rows is complete.
    fn member(&mut self) -> Result<(), Unreadable> {
        let value = std::mem::take(&mut self.value);
        if self.key.eq_ignore_ascii_case(b"columns") {
            self.columns = columns(&value);
        }
        let marks = ["statuscode", "message"];
        let is_mark = marks.iter().any(|mark| self.key.eq_ignore_ascii_case(mark.as_bytes()));
        if is_mark && trimmed(&value) != b"null" {
            return Err(Unreadable::ErrorObject);
        }
        Ok(())
    }
}

impl Write for Splitter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.feed(bytes).map_err(|error| {
            self.error = Some(error);
            io::Error::other("the answer cannot be read")
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Splitter {
    /// Why bytes were not taken, for whoever gets but an error of a write.
    pub(super) fn refused(&mut self) -> Option<Unreadable> {
        self.error.take()
    }
}

/// The names in a list of columns; the keys of an entry are uncertain (contract section 14, row 11).
fn columns(list: &[u8]) -> Vec<String> {
    let Ok(Value::Array(entries)) = serde_json::from_slice(list) else { return Vec::new() };
    let name = |entry: &Value| match entry {
        Value::String(name) => Some(name.clone()),
        Value::Object(members) => ["name", "columnname", "field"].into_iter().find_map(|alias| {
            let found = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(alias));
            found.and_then(|(_, name)| name.as_str()).map(str::to_owned)
        }),
        _ => None,
    };
    entries.iter().filter_map(name).take(MOST_COLUMNS).collect()
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All rows of an answer that comes in pieces of a size, the columns, and how it ended.
    fn split(body: &[u8], piece: usize) -> (Vec<String>, Vec<String>, Result<(), Unreadable>) {
        let mut splitter = Splitter::new();
        let mut rows = Vec::new();
        let mut end = Ok(());
        for piece in body.chunks(piece) {
            end = splitter.feed(piece);
            let batch = splitter.take();
            rows.extend(
                batch
                    .rows
                    .iter()
                    .map(|&(from, to)| String::from_utf8(batch.bytes[from..to].to_vec()).unwrap()),
            );
            rows.extend(batch.undecodable.iter().map(|_| "undecodable".to_owned()));
            if end.is_err() {
                break;
            }
        }
        let end = end.and_then(|()| splitter.finish());
        (rows, splitter.take_columns(), end)
    }

    #[test]
    fn rows_are_the_same_however_the_answer_is_cut_into_pieces() {
        let columns =
            r#"[{"name":"A","type":"Guid"},{"columnName":"B \"x\""},{"Field":"C"},{"other":1},"D"]"#;
        for body in [
            format!(r#"{{"data":[{{"a":"]}}\\"}} , {{"b":[1,{{}}]}},3],"columns":{columns}}}"#),
            format!(
                " {{ \"columns\" : {columns} , \"x\":{{\"data\":[9]}},\"Data\" :\n[ {{\"a\":\"]}}\\\\\"}},{{\"b\":[1,{{}}]}} ,3 ] }} "
            ),
        ] {
            for piece in 1..=body.len() {
                let (rows, columns, end) = split(body.as_bytes(), piece);
                assert_eq!(rows, [r#"{"a":"]}\\"}"#, r#"{"b":[1,{}]}"#, "3"], "{piece} {body}");
                assert_eq!(columns, ["A", "B \"x\"", "C", "D"]);
                assert_eq!(end, Ok(()));
            }
        }
        assert_eq!(split(b"\xef\xbb\xbf[1, 2]", 1).0, ["1", "2"]);
    }

    #[test]
    fn it_agrees_with_the_reader_of_whole_pages() {
        for body in [
            "",
            " \r\n",
            "null",
            " null ",
            "[]",
            "[ ]",
            "\u{feff}[]",
            r#"{"data":null}"#,
            r#"{"data":[]}"#,
            r#"{"data":[],"columns":[]}"#,
            r#"{"data":{"rows":[]},"columns":[]}"#,
            r#"{"data":false}"#,
            r#"{"result":true,"data":[1]}"#,
            r#"{"StatusCode":500,"Message":"x"}"#,
            r#"{"data":[1],"message":"x"}"#,
            r#"{"message":null,"data":[1]}"#,
            "[1,]",
            "[,1]",
            "[1]]",
            "[1][2]",
            "[1}",
            "<html>",
            "7",
            "\"x\"",
            "{}",
            r#"{"a":[1]}"#,
            "[{\"a\":nope},2]",
            "[1",
            "{\"data\":[1]",
            "{\"data\":[1],\"x\":\"",
            "[{\"a\":\"\u{1}\"}]",
        ] {
            let whole = super::super::page::layout(body.as_bytes());
            let (rows, _, end) = split(body.as_bytes(), 3);
            assert_eq!(end.is_ok(), whole.is_ok(), "{body:?}: {end:?} {whole:?}");
            if let Ok(whole) = whole {
                assert_eq!(rows.len(), whole.rows.len() + whole.undecodable.len(), "{body:?}");
            }
        }
        assert_eq!(split(b"{\"StatusCode\":500}", 2).2, Err(Unreadable::ErrorObject));
    }

    #[test]
    fn what_is_held_does_not_grow_with_the_answer() {
        let row = format!(r#"{{"Hostname":"{}"}},"#, "x".repeat(500));
        let mut splitter = Splitter::new();
        splitter.feed(b"{\"data\":[").unwrap();
        let (mut rows, mut most) = (0, 0);
        for _ in 0..40_000 {
            splitter.feed(row.as_bytes()).unwrap();
            most = most.max(splitter.held());
            if splitter.is_full() {
                rows += splitter.take().rows.len();
            }
        }
        splitter.feed(b"{}],\"columns\":[]}").unwrap();
        assert_eq!((rows + splitter.take().rows.len(), splitter.finish()), (40_001, Ok(())));
        assert!(most < 4 * BATCH, "{most} bytes held of 20 MB");
        let endless = vec![b'x'; LONGEST_ROW + 2];
        let mut splitter = Splitter::new();
        splitter.feed(b"[\"").unwrap();
        assert!(splitter.feed(&endless).is_err());
    }
}
