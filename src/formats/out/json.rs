//! JSON straight into the buffer of a batch.

use super::{From, Out, Value};
use crate::record::row::{Field, Slots};

/// Objects within objects at most.
const DEEPEST: usize = 12;

/// Appends one JSON object. Every member ends with a comma until its object ends.
#[derive(Debug)]
pub struct JsonOut<'b> {
    buffer: &'b mut Vec<u8>,
    told: Slots,
    /// Where the objects and lists that are open began, their keys included.
    open: [usize; DEEPEST],
    depth: usize,
}

impl<'b> JsonOut<'b> {
    /// Begins the object.
    pub fn start(buffer: &'b mut Vec<u8>) -> Self {
        buffer.push(b'{');
        Self { buffer, told: Slots::default(), open: [0; DEEPEST], depth: 0 }
    }

    /// Ends the object and its line.
    pub fn finish(self) {
        if self.buffer.last() == Some(&b',') {
            self.buffer.pop();
        }
        self.buffer.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str) {
        if !key.is_empty() {
            self.buffer.push(b'"');
            self.buffer.extend_from_slice(key.as_bytes());
            self.buffer.extend_from_slice(b"\":");
        }
    }

    fn begin(&mut self, key: &str, bracket: u8) {
        self.open[self.depth] = self.buffer.len();
        self.depth += 1;
        self.key(key);
        self.buffer.push(bracket);
    }

    fn end(&mut self, bracket: u8) {
        self.depth -= 1;
        if self.buffer.last() == Some(&b',') {
            self.buffer.pop();
            self.buffer.extend_from_slice(&[bracket, b',']);
        } else {
            self.buffer.truncate(self.open[self.depth]);
        }
    }
}

impl Out for JsonOut<'_> {
    fn open(&mut self, key: &str) {
        self.begin(key, b'{');
    }

    fn close(&mut self) {
        self.end(b'}');
    }

    fn open_list(&mut self, key: &str) {
        self.begin(key, b'[');
    }

    fn close_list(&mut self) {
        self.end(b']');
    }

    fn put(&mut self, key: &str, value: Value<'_>, from: From) {
        if from.told {
            self.told = self.told | from.slots;
        }
        self.key(key);
        match value {
            Value::Json(json) => self.buffer.extend_from_slice(json.as_bytes()),
            Value::Escaped(text) => {
                self.buffer.push(b'"');
                self.buffer.extend_from_slice(text.as_bytes());
                self.buffer.push(b'"');
            }
            Value::Text(text) => {
                serde_json::to_writer(&mut *self.buffer, text).expect("a vector takes every write");
            }
            Value::Integer(number) => decimal(self.buffer, number),
            Value::Boolean(true) => self.buffer.extend_from_slice(b"true"),
            Value::Boolean(false) => self.buffer.extend_from_slice(b"false"),
        }
        self.buffer.push(b',');
    }

    fn tell(&mut self, field: Field<'_>, _rule: &'static str) {
        self.told = self.told | field.slot().into();
    }

    fn told(&self) -> Slots {
        self.told
    }
}

fn decimal(buffer: &mut Vec<u8>, number: i64) {
    serde_json::to_writer(buffer, &number).expect("a vector takes every write");
}
