//! Pseudonyms: HMAC-SHA-256 of a value, in the shape that readers of the value need.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::class::Class;
use super::text::folded;

/// The fewest bytes of a key.
pub const LEAST_KEY: usize = 16;

/// A key, ready to use.
#[derive(Clone)]
pub struct Key {
    mac: Hmac<Sha256>,
    id: String,
}

impl Key {
    /// None for a key of fewer than [`LEAST_KEY`] bytes.
    pub fn new(secret: &[u8]) -> Option<Self> {
        if secret.len() < LEAST_KEY {
            return None;
        }
        let mac = Hmac::new_from_slice(secret).expect("a key of any length is taken");
        let mut key = Self { mac, id: String::new() };
        key.id = hex(&key.digest("key", "id"), 4);
        Some(key)
    }

    /// Tells keys apart and nothing of what they are: 8 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn digest(&self, shape: &str, text: &str) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(shape.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The pseudonym of a value, the same for every casing.
    pub(super) fn pseudonym(&self, class: Class, value: &str) -> String {
        if let Ok(address) = value.parse::<IpAddr>() {
            let mut bytes = [0xfd; 16];
            bytes[1..].copy_from_slice(&self.digest("ip", &address.to_canonical().to_string())[..15]);
            // fd00::/8 is the half of the unique local addresses that is for everybody's own use (RFC 4193).
            return Ipv6Addr::from(bytes).to_string();
        }
        let text = folded(value);
        if let Some((digits, separator)) = mac_address(&text) {
            let mut bytes = self.digest("mac", &digits);
            bytes[0] = bytes[0] & 0xfc | 0x02;
            return written(&hex(&bytes, 6), separator);
        }
        if value.len() == 36 && Uuid::try_parse(value).is_ok() {
            let digest = self.digest("guid", &text);
            let bytes = digest[..16].try_into().expect("16 bytes");
            return uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
        }
        if is_email(value) {
            return format!("user-{}@redacted.invalid", hex(&self.digest("email", &text), 8));
        }
        format!("{}-{}", class.prefix(), hex(&self.digest(class.prefix(), &text), 8))
    }
}

/// What may stand between the digits of a hardware address: pairs of them, or Cisco's fours.
pub(super) const SEPARATORS: [&str; 3] = [":", "-", "."];

/// The digits of a hardware address and what stands between them.
pub(super) fn mac_address(text: &str) -> Option<(String, &'static str)> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let is_written = |separator: &&str| digits.len() == 12 && written(&digits, separator) == text;
    let separator = SEPARATORS.into_iter().find(is_written)?;
    Some((digits, separator))
}

/// A hardware address of these digits.
pub(super) fn written(digits: &str, separator: &str) -> String {
    let size = if separator == "." { 4 } else { 2 };
    let groups = (0..digits.len()).step_by(size).filter_map(|at| digits.get(at..at + size));
    groups.collect::<Vec<_>>().join(separator)
}

/// Whether the text has the shape of an e-mail address.
pub(super) fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && host.contains('.') && !host.contains('@') && !text.contains(char::is_whitespace)
    })
}

fn hex(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count).fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a string takes every write");
        out
    })
}
