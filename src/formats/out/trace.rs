//! What was written, and why, for people.

use super::{From, Out, Value};
use crate::record::row::{Field, Slots};

/// One member of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// Where it stands, such as `device.os.name`; elements of lists as `device.groups[0].name`.
    pub path: String,
    /// Its JSON text.
    pub value: String,
    pub slots: Slots,
    pub rule: &'static str,
}

/// Notes every member of one record.
#[derive(Debug, Default)]
pub struct TraceOut {
    pub members: Vec<Traced>,
    told: Slots,
    /// Keys of what is open, with the count of elements where it is a list.
    open: Vec<(String, Option<usize>)>,
}

impl TraceOut {
    fn path(&mut self, key: &str) -> String {
        let mut path = String::new();
        for (name, elements) in &mut self.open {
            if !name.is_empty() {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            if let Some(elements) = elements {
                path.push_str(&format!("[{elements}]"));
            }
        }
        if !key.is_empty() && !path.is_empty() {
            path.push('.');
        }
        path + key
    }

    /// Counts an element of the list that is open, if it is a list.
    fn element(&mut self, key: &str) {
        if let (true, Some((_, Some(elements)))) = (key.is_empty(), self.open.last_mut()) {
            *elements += 1;
        }
    }
}

impl Out for TraceOut {
    fn open(&mut self, key: &str) {
        self.open.push((key.to_owned(), None));
    }

    fn close(&mut self) {
        self.open.pop();
        self.element("");
    }

    fn open_list(&mut self, key: &str) {
        self.open.push((key.to_owned(), Some(0)));
    }

    fn close_list(&mut self) {
        self.open.pop();
    }

    fn put(&mut self, key: &str, value: Value<'_>, from: From) {
        if from.told {
            self.told = self.told | from.slots;
        }
        let path = self.path(key);
        self.element(key);
        let value = match value {
            Value::Json(json) => json.to_owned(),
            Value::Escaped(text) => format!("\"{text}\""),
            Value::Text(text) => serde_json::Value::from(text).to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
        };
        self.members.push(Traced { path, value, slots: from.slots, rule: from.rule });
    }

    fn tell(&mut self, field: Field<'_>, rule: &'static str) {
        self.told = self.told | field.slot().into();
        let slots = field.slot().into();
        self.members.push(Traced { path: String::new(), value: field.raw().to_owned(), slots, rule });
    }

    fn told(&self) -> Slots {
        self.told
    }
}
