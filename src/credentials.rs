//! Where a secret comes from and how it is read anew.
//!
//! A file is read for every request: it is tiny, a request is not, and so a rotated token, a rewritten file
//! and a swapped symlink (Kubernetes) are all seen at once without comparing stamps that can lie.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

/// A file above this is no secret but a mistake in the configuration.
const LONGEST: u64 = 64 * 1024;

/// Where a secret is kept.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// A file with nothing else in it; space around the secret is ignored.
    File(PathBuf),
    /// An environment variable as found at the start; changing it needs a restart.
    Env { name: String, value: SecretString },
}

impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (SecretSource::File(one), SecretSource::File(other)) => one == other,
            (
                SecretSource::Env { name: one, value: first },
                SecretSource::Env { name: other, value: second },
            ) => one == other && first.expose_secret() == second.expose_secret(),
            (SecretSource::File(_), SecretSource::Env { .. })
            | (SecretSource::Env { .. }, SecretSource::File(_)) => false,
        }
    }
}

impl Eq for SecretSource {}

impl std::fmt::Display for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretSource::File(path) => write!(f, "file {}", path.display()),
            SecretSource::Env { name, .. } => write!(f, "environment variable {name}"),
        }
    }
}

/// A secret that cannot be had.
#[derive(Debug, Error)]
pub enum CredentialError {
    #[error(
        "the secret in {from} cannot be read: {error}; check that it exists and that this user may read it"
    )]
    Unreadable { from: String, error: std::io::Error },
    #[error("the secret in {from} is empty")]
    Empty { from: String },
    #[error("the secret in {from} is larger than 64 KiB; name a file that holds only the secret")]
    TooLarge { from: String },
    #[error(
        "the secret in {from} contains a control character or is no plain text; write it again without line breaks inside"
    )]
    NotPlain { from: String },
}

/// A portal token and its source.
#[derive(Clone, Debug)]
pub struct Token {
    source: SecretSource,
    warned: Arc<AtomicBool>,
}

impl Token {
    pub fn new(source: SecretSource) -> Self {
        Self { source, warned: Arc::default() }
    }

    /// Where the token comes from, for messages.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }

    /// The token as it is now. Warns once when it does not look like one (contract section 1.3: 64 lower-case
    /// hexadecimal characters, which the vendor never promises).
    pub async fn read(&self) -> Result<SecretString, CredentialError> {
        let secret = read_secret(&self.source).await?;
        if !looks_like_a_token(secret.expose_secret()) && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(from = %self.source, "this does not look like a portal token (64 characters of 0-9 and a-f); it is used as it is");
        }
        Ok(secret)
    }
}

/// Reads a secret from its source, without the space around it.
pub async fn read_secret(source: &SecretSource) -> Result<SecretString, CredentialError> {
    let (from, source) = (source.to_string(), source.clone());
    match tokio::task::spawn_blocking(move || read_secret_now(&source)).await {
        Ok(secret) => secret,
        Err(error) => Err(CredentialError::Unreadable { from, error: std::io::Error::other(error) }),
    }
}

/// [`read_secret`] for who may wait for the disk.
pub fn read_secret_now(source: &SecretSource) -> Result<SecretString, CredentialError> {
    let from = source.to_string();
    match source {
        SecretSource::Env { value, .. } => checked(value.expose_secret().as_bytes(), from),
        SecretSource::File(path) => {
            let mut content = Vec::new();
            let file = std::fs::File::open(path);
            match file.and_then(|file| file.take(LONGEST + 1).read_to_end(&mut content)) {
                Ok(_) => checked(&content, from),
                Err(error) => Err(CredentialError::Unreadable { from, error }),
            }
        }
    }
}

fn checked(content: &[u8], from: String) -> Result<SecretString, CredentialError> {
    if content.len() as u64 > LONGEST {
        return Err(CredentialError::TooLarge { from });
    }
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content).trim_ascii();
    match std::str::from_utf8(content) {
        Ok("") => Err(CredentialError::Empty { from }),
        Ok(text) if !text.chars().any(char::is_control) => Ok(SecretString::from(text)),
        _ => Err(CredentialError::NotPlain { from }),
    }
}

/// Whether it has the shape of every token seen (contract section 1.3).
pub fn looks_like_a_token(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(content: &[u8]) -> Result<String, CredentialError> {
        checked(content, "test".into()).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn space_around_a_secret_is_ignored_and_a_break_inside_is_refused() {
        assert_eq!(text(b"\xef\xbb\xbf abc\r\n\n").unwrap(), "abc");
        assert!(matches!(text(b"ab\r\ncd"), Err(CredentialError::NotPlain { .. })));
        assert!(matches!(text(b"ab\0"), Err(CredentialError::NotPlain { .. })));
        assert!(matches!(text(b"ab\xffcd"), Err(CredentialError::NotPlain { .. })));
        assert!(matches!(text(b" \n"), Err(CredentialError::Empty { .. })));
    }

    #[tokio::test]
    async fn a_secret_is_read_anew_when_the_file_is_rewritten_or_its_symlink_swapped() {
        let dir = tempfile::tempdir().unwrap();
        let (link, one, two) = (dir.path().join("token"), dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "first").unwrap();
        std::fs::write(&two, "third").unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let token = Token::new(SecretSource::File(link.clone()));
        assert_eq!(token.read().await.unwrap().expose_secret(), "first");
        std::fs::write(&one, "again").unwrap();
        assert_eq!(token.read().await.unwrap().expose_secret(), "again");
        std::os::unix::fs::symlink(&two, dir.path().join("new")).unwrap();
        std::fs::rename(dir.path().join("new"), &link).unwrap();
        assert_eq!(token.read().await.unwrap().expose_secret(), "third");
        std::fs::remove_file(&link).unwrap();
        let error = token.read().await.unwrap_err().to_string();
        assert!(error.contains("cannot be read") && error.contains("token"), "{error}");
    }

    #[test]
    fn no_message_shows_the_secret() {
        let secret = "5ecre7";
        let source = SecretSource::Env { name: "TOKEN".into(), value: SecretString::from(secret) };
        assert!(!format!("{source} {source:?}").contains(secret));
        let token = Token::new(source);
        assert!(!format!("{token:?}").contains(secret));
        assert!(!text(b"5ecre7\x01").unwrap_err().to_string().contains(secret));
    }

    proptest! {
        #[test]
        fn an_accepted_secret_can_always_be_a_header(content in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(secret) = text(&content) {
                prop_assert!(reqwest::header::HeaderValue::from_bytes(secret.as_bytes()).is_ok());
            }
        }
    }
}
