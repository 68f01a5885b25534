//! What is set for the agent of a computer (contract section 2.2): its proxy and its options, which change by themselves.

use super::computers::Computer;
use super::dice::mix;
use super::text::{Object, guid};
use super::world::purpose;
use crate::model::{Micros, SECOND};

/// How long things stay as they are at least.
const LASTS: Micros = 5 * 3_600 * SECOND;
const OPTIONS: [&str; 3] = ["null", "[]", r#"["DisableCache","ä-Option"]"#];

/// How it is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub has_proxy: bool,
    /// As it stands in JSON.
    pub options: &'static str,
}

impl Computer {
    /// What is set for it at a moment.
    pub fn detail(&self, now: Micros) -> Detail {
        let shift = i64::try_from(mix(self.number ^ 0xde7a) % 18_000).expect("below 18000") * SECOND;
        let turn = u64::try_from((now + shift).div_euclid(LASTS)).unwrap_or(0);
        let dice = mix(self.number.wrapping_mul(1 << 20) ^ (turn / 3));
        let options = usize::try_from(dice / 8 % 3).expect("below 3");
        Detail {
            has_proxy: mix(self.number.wrapping_mul(1 << 24) ^ turn).is_multiple_of(5),
            options: OPTIONS[options],
        }
    }

    /// Every way it was from one moment to another, the first way first.
    pub fn details(&self, from: Micros, until: Micros) -> Vec<Detail> {
        let steps = (until - from).div_euclid(60 * SECOND).max(0);
        let mut ways: Vec<Detail> =
            (0..=steps).map(|minute| self.detail(from + minute * 60 * SECOND)).collect();
        ways.push(self.detail(until));
        ways.dedup();
        ways
    }

    /// Appends the record.
    pub fn write_detail(&self, now: Micros, seed: u64, out: &mut String) {
        let detail = self.detail(now);
        let mut object = Object::start(out);
        object.text("computerId", self.id);
        object.text("computerGroupId", guid(seed, purpose::GROUP, self.group() as u64));
        object.maybe("name", (!self.number.is_multiple_of(7)).then_some(&self.name));
        object.value("useProxyServer", detail.has_proxy);
        match detail.has_proxy {
            true => object.members(concat!(
                r#""proxyServerOption":"Custom","proxyUrlEntry":"http://proxyuser:not-a-real-password@proxy.example.com:3128","#,
                r#""proxyURL":"http://proxyuser:not-a-real-password@proxy.example.com:3128""#
            )),
            false => object.members(r#""proxyServerOption":null,"proxyUrlEntry":"","proxyURL":null"#),
        };
        object.value("options", detail.options);
        // Members that nobody wrote of, one of which moves.
        object.value("uninstallKeyRequired", self.number.is_multiple_of(2));
        object.value("totalRows", now / (60 * SECOND) % 100);
        object.end();
    }
}
