//! The token of OAUTHBEARER: read from its file whenever librdkafka wants one, so whoever renews the file renews it here.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::clock::Clock;
use crate::credentials::{CredentialError, SecretSource, read_secret_now};

/// How long a token is believed that does not say when it expires; at four fifths of that it is read again.
const UNKNOWN: i64 = 600_000;

/// Where the token is, and what librdkafka wants to know besides.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    pub(super) source: SecretSource,
    pub(super) principal: String,
    pub(super) clock: Clock,
}

/// A token that is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum BearerError {
    #[error(transparent)]
    Unreadable(#[from] CredentialError),
    #[error("the token in {0} has expired; write a new one")]
    Expired(SecretSource),
}

impl Bearer {
    /// The token as it is now.
    pub(super) fn token(&self) -> Result<OAuthToken, BearerError> {
        let secret = read_secret_now(&self.source)?;
        let now = self.clock.now().timestamp_millis();
        let token = secret.expose_secret();
        let lifetime_ms = expiry(token).unwrap_or(now + UNKNOWN);
        if lifetime_ms <= now {
            return Err(BearerError::Expired(self.source.clone()));
        }
        Ok(OAuthToken { token: token.to_owned(), principal_name: self.principal.clone(), lifetime_ms })
    }
}

/// When a JSON Web Token expires, in milliseconds since 1970; none of what is no such token, or does not say.
fn expiry(token: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: serde_json::Number,
    }
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let exp = serde_json::from_slice::<Claims>(&claims).ok()?.exp;
    exp.as_i64().or_else(|| exp.to_string().split('.').next()?.parse().ok())?.checked_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!(
            "{}.{}.",
            BASE64_URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"),
            BASE64_URL_SAFE_NO_PAD.encode(claims)
        )
    }

    #[test]
    fn a_token_lasts_as_long_as_it_says_and_one_that_says_nothing_is_read_again_soon() {
        assert_eq!(expiry(&token("{\"sub\":\"a\",\"exp\":1700000000}")), Some(1_700_000_000_000));
        assert_eq!(expiry(&token("{\"exp\":1700000000.5}")), Some(1_700_000_000_000));
        for opaque in ["opaque".to_owned(), "a.b.c".to_owned(), token("{}")] {
            assert_eq!(expiry(&opaque), None, "{opaque}");
        }
    }

    #[test]
    fn a_token_that_has_expired_is_not_shown_to_the_brokers_and_a_new_one_counts_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let clock = Clock::system();
        let bearer = Bearer {
            source: SecretSource::File(file.clone()),
            principal: "me".to_owned(),
            clock: clock.clone(),
        };
        let expires = |seconds: i64| token(&format!("{{\"exp\":{}}}", clock.now().timestamp() + seconds));
        std::fs::write(&file, expires(-1)).unwrap();
        let error = bearer.token().err().unwrap().to_string();
        assert!(error.contains("has expired") && !error.contains(&expires(-1)), "{error}");
        std::fs::write(&file, expires(60)).unwrap();
        assert!(bearer.token().unwrap().lifetime_ms > clock.now().timestamp_millis());
        std::fs::write(&file, "opaque").unwrap();
        assert_eq!(bearer.token().unwrap().token, "opaque");
    }
}
