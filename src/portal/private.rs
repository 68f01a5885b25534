//! Paths that the vendor does not publish, and that an operator names.

use std::sync::{Mutex, MutexGuard};

/// Longest path that is taken.
const LONGEST: usize = 200;

/// Words of a last segment that tell of a change, or of a secret: what they name is not asked, whatever else stands beside
/// them (contract section 13).
const NEVER: [&str; 36] = [
    "Add", "Approve", "Assign", "Auth", "Cancel", "Clear", "Close", "Create", "Delete", "Disable", "Dismiss",
    "Enable", "End", "Execute", "Ignore", "Insert", "Install", "Isolate", "Key", "Lock", "Password",
    "Permit", "Reject", "Remove", "Reset", "Resolve", "Restart", "Run", "Save", "Secret", "Send", "Set",
    "Snooze", "Start", "Token", "Update",
];

/// A path, and whether it is asked with GET.
type Named = (&'static str, bool);

/// Every one that was named since the program started: few, so none is given back.
static NAMED: Mutex<Vec<Named>> = Mutex::new(Vec::new());

fn all_named() -> MutexGuard<'static, Vec<Named>> {
    NAMED.lock().expect("nobody panics while holding the paths")
}

/// A path below the portal's API that an operator named, and how it is asked. It looks like one that only reads. It is its
/// place among all that were named, since every error of the portal carries one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrivatePath(u16);

impl PrivatePath {
    /// Takes a path such as `Threat/ThreatGetByParameters`: names of letters and digits with a slash between them, the
    /// last of which has `Get` for one of its words and none that tells of a change. So it cannot lead to another host,
    /// out of the API, or carry a query.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(path: &str, is_get: bool) -> Result<Self, String> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let segments: Vec<&str> = path.split('/').collect();
        let well_formed = segments.iter().all(|segment| !segment.is_empty() && segment.chars().all(plain));
        if !well_formed || segments.len() < 2 || path.len() > LONGEST {
            return Err(
                "must be a path below the portal's API such as `Threat/ThreatGetByParameters`: names of letters and \
                 digits with a `/` between them, no address, no `..`, no `?`"
                    .to_owned(),
            );
        }
        if segments.iter().any(|segment| segment.eq_ignore_ascii_case("portalapi")) {
            return Err("begins below `/portalapi/`; leave that out".to_owned());
        }
        let words = words(segments.last().copied().unwrap_or_default());
        if !words.contains(&"Get") {
            return Err("must end with a name that has `Get` in it: nothing but reading is done".to_owned());
        }
        if let Some(word) = words.iter().find(|word| NEVER.contains(word)) {
            return Err(format!(
                "ends with a name that has `{word}` in it: it may change something at the portal, or tell a secret, and \
                 is not asked"
            ));
        }
        let mut named = all_named();
        let known = named.iter().position(|one| *one == (path, is_get));
        let place = known.unwrap_or(named.len());
        let place = u16::try_from(place).map_err(|_| "is one of too many".to_owned())?;
        if known.is_none() {
            named.push((Box::leak(path.into()), is_get));
        }
        Ok(Self(place))
    }

    /// Below `/portalapi/`.
    pub fn path(self) -> &'static str {
        all_named()[usize::from(self.0)].0
    }

    /// Whether it is asked with GET and a query; else with POST and a body.
    pub fn is_get(self) -> bool {
        all_named()[usize::from(self.0)].1
    }
}

/// The words of a name such as `ThreatGetByParameters`: each begins with a capital letter.
fn words(name: &str) -> Vec<&str> {
    let starts =
        name.char_indices().filter(|(at, letter)| *at == 0 || letter.is_ascii_uppercase() || *letter == '_');
    let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([name.len()]);
    let word = |(start, end)| name.get(start..end).unwrap_or_default().trim_start_matches('_');
    starts.iter().copied().zip(ends).map(word).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_reads_is_taken_as_it_is() {
        for path in
            ["Threat/ThreatGetByParameters", "Detect/V2/Incident_GetList", "Target/TargetGetByAuthorId"]
        {
            let taken = PrivatePath::new(path, true).unwrap();
            assert_eq!((taken.path(), taken.is_get()), (path, true));
            assert_eq!(PrivatePath::new(path, true), Ok(taken), "named twice it is the same");
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_or_may_change_something_is_refused() {
        for path in [
            "",
            "/",
            "ThreatGet",
            "/Threat/ThreatGet",
            "Threat/ThreatGet/",
            "Threat//ThreatGet",
            "../Threat/ThreatGet",
            "Threat/../Computer/ComputerGet",
            "https://elsewhere.example/ThreatGet",
            "//elsewhere.example/ThreatGet",
            "Threat/ThreatGet?computerId=1",
            "Threat/ThreatGet#x",
            "Threat/Threat%2e%2e/Get",
            "Threat\\ThreatGet",
            "Threat/Threat Get",
            "Threat/ThreatGét",
            "portalapi/Threat/ThreatGetByParameters",
            "PortalApi/Threat/ThreatGetByParameters",
            "Threat/ThreatList",
            "Threat/TargetList",
            "ThreatGet/ThreatByParameters",
            "Threat/ThreatGetAndClear",
            "Threat/ThreatUpdateGet",
            "Organization/OrganizationGetAuthKeyById",
        ] {
            assert!(PrivatePath::new(path, false).is_err(), "{path}");
        }
        assert!(PrivatePath::new(&format!("Threat/{}Get", "x".repeat(LONGEST)), false).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_below_the_api(path in r"[A-Za-z./:?#%\\_]{0,12}(/[A-Za-z./:?#%\\_]{0,6}Get[A-Za-z.]{0,6})?") {
            let base = reqwest::Url::parse("https://portal.example/portalapi/").unwrap();
            if let Ok(taken) = PrivatePath::new(&path, false) {
                let url = base.join(taken.path()).unwrap();
                prop_assert_eq!(url.as_str(), format!("{base}{path}"));
            }
        }
    }
}
