//! Where a secret comes from.

use std::path::PathBuf;

use secrecy::SecretString;

/// Where a secret is kept.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// A file with nothing else in it; space around the secret is ignored.
    File(PathBuf),
    /// An environment variable as found at the start; changing it needs a restart.
    Env { name: String, value: SecretString },
}
