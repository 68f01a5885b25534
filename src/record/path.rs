//! Parts of paths and command lines. All work on the inside of a JSON string, escapes and all, and answer
//! parts of it that can be written as they are.

/// What stands behind the last separator, `\` (which JSON writes twice) or `/`; all of it where nothing does.
pub fn base_name(path: &str) -> &str {
    let bytes = path.as_bytes();
    let (mut at, mut start) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => {
                at += 1;
                if matches!(bytes.get(at), Some(b'\\' | b'/')) {
                    start = at + 1;
                }
            }
            b'/' => start = at + 1,
            _ => {}
        }
        at += 1;
    }
    path.get(start..).filter(|name| !name.is_empty()).unwrap_or(path)
}

/// Endings of files that are started, with the blank that ends them.
const PROGRAMS: [&str; 6] = [".exe", ".com", ".bat", ".cmd", ".ps1", ".msi"];

/// The program of a command line, or none where the text is a path alone. Paths hold blanks: a command line is
/// known by quotes, by a known ending before a blank, or by a blank before a dash.
pub fn program(line: &str) -> Option<&str> {
    if let Some(quoted) = line.strip_prefix("\\\"") {
        return quoted.split_once("\\\"").map(|(program, _)| program).filter(|program| !program.is_empty());
    }
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let blank = match bytes[at] {
            b' ' => 1,
            b'\\' => match bytes.get(at + 1) {
                Some(b't' | b'n' | b'r') => 2,
                _ => {
                    at += 2;
                    continue;
                }
            },
            _ => 0,
        };
        if blank > 0 && at > 0 {
            let ends = PROGRAMS.iter().any(|ending| ends_with(&bytes[..at], ending));
            let dash =
                matches!(bytes.get(at + blank), Some(b'-')) && bytes.get(at + blank + 1) != Some(&b' ');
            if ends || dash {
                return line.get(..at);
            }
        }
        at += blank.max(1);
    }
    None
}

fn ends_with(text: &[u8], ending: &str) -> bool {
    text.len() > ending.len() && text[text.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes())
}

/// `DOMAIN` and `user` of `DOMAIN\user`.
pub fn domain_and_user(name: &str) -> Option<(&str, &str)> {
    let (domain, user) = name.split_once("\\\\")?;
    (!domain.is_empty() && !user.is_empty() && !user.contains("\\\\")).then_some((domain, user))
}

/// The host of an address on the web such as `https://host:port/path`.
pub fn web_host(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next()?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    is_hostname(host).then_some(host)
}

/// Whether a text is a name that OCSF takes as a host's: letters, digits and inner dashes between dots.
pub fn is_hostname(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// Whether a text is what OCSF takes as an e-mail address.
pub fn is_email(text: &str) -> bool {
    let Some((user, host)) = text.split_once('@') else { return false };
    let Some((name, zone)) = host.split_once('.') else { return false };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !user.is_empty()
        && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte))
        && !name.is_empty()
        && name.bytes().all(is_host)
        && !zone.is_empty()
        && zone.bytes().all(|byte| is_host(byte) || byte == b'.')
}

/// Whether a text is a hash of so many hexadecimal digits.
pub fn is_hash(text: &str, digits: std::ops::RangeInclusive<usize>) -> bool {
    digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text is the address of a network card: six pairs of hexadecimal digits between dashes or colons.
pub fn is_mac(text: &str) -> bool {
    let mut pairs = text.split([':', '-']);
    let is_pair = |pair: &str| is_hash(pair, 2..=2);
    pairs.clone().count() == 6 && pairs.all(is_pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_stands_behind_its_last_separator() {
        for (path, name) in [
            (r"c:\\windows\\explorer.exe", "explorer.exe"),
            ("/usr/bin/python3", "python3"),
            (r"\\\\server\\share\\a.txt", "a.txt"),
            (r"c:\/x\/y", "y"),
            (r#"c:\\a\"b"#, r#"a\"b"#),
            (r"c:\\folder\\", r"c:\\folder\\"),
            ("plain", "plain"),
        ] {
            assert_eq!(base_name(path), name);
        }
    }

    #[test]
    fn a_command_line_is_known_by_what_follows_its_program() {
        for (line, wanted) in [
            (r"c:\\program files\\x.exe --quiet", Some(r"c:\\program files\\x.exe")),
            (r#"\"c:\\a b\\x.exe\" -a"#, Some(r"c:\\a b\\x.exe")),
            (r"C:\\X.EXE /s", Some(r"C:\\X.EXE")),
            (r"/opt/agent\t--token", Some("/opt/agent")),
            ("/bin/ls -l", Some("/bin/ls")),
            (r"c:\\program files\\x.exe", None),
            ("/Applications/Some Name.app/Contents/x", None),
            (r"c:\\a - b\\c.txt", None),
            (r"c:\\temp\\new", None),
            ("", None),
        ] {
            assert_eq!(program(line), wanted, "{line}");
        }
    }

    #[test]
    fn hosts_addresses_and_hashes_are_told_from_other_texts() {
        assert_eq!(web_host("https://u@a.example:8443/x?y"), Some("a.example"));
        assert_eq!(web_host("a.example/x"), Some("a.example"));
        assert_eq!((web_host("https://zoë.example"), web_host("")), (None, None));
        assert!(
            is_hostname("WS-0001.example")
                && !is_hostname("-a")
                && !is_hostname("a_b")
                && !is_hostname("a..b")
        );
        assert!(
            is_email("a.b@example.com")
                && !is_email("a@b")
                && !is_email("collector (API)")
                && !is_email("@a.b")
        );
        assert!(
            is_hash(&"aF".repeat(32), 64..=64) && !is_hash(&"g".repeat(64), 64..=64) && !is_hash("", 1..=64)
        );
        assert!(is_mac("00:53:00-aB:00:01") && !is_mac("00:53:00:00:00") && !is_mac("00:53:00:00:00:1g"));
        assert_eq!(domain_and_user(r"EXAMPLE\\a.muster"), Some(("EXAMPLE", "a.muster")));
        assert_eq!((domain_and_user(r"\\a"), domain_and_user("a")), (None, None));
    }
}
