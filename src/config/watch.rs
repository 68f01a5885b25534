//! Where a configuration comes from, so that it can be loaded again when it changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Config, ConfigError, Environment, folder, layers};

/// Where a configuration comes from, and who asks for it to be loaded again.
#[derive(Clone)]
pub struct Origin {
    pub file: PathBuf,
    pub environment: Environment,
    /// Time between two looks at the files.
    pub look_every: Duration,
    /// Loads it at once, whatever the files look like.
    pub asked: Arc<Notify>,
}

/// What the files of a configuration looked like; secrets only by whether they are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(BTreeMap<PathBuf, Option<[u8; 32]>>);

impl Origin {
    pub fn new(file: &Path, environment: &Environment) -> Self {
        let (file, environment) = (file.to_owned(), environment.clone());
        Self { file, environment, look_every: Duration::from_secs(5), asked: Arc::default() }
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.file, &self.environment)
    }

    /// A look at the files, and at those in `folder`, the folder of connections as last loaded. The contents
    /// are compared: times can lie, and a mounted folder is swapped as a whole.
    pub fn stamp(&self, folder: Option<&Path>) -> Stamp {
        let mut stamp = Stamp::default();
        let files = layers::files(&self.file).unwrap_or_default();
        for (path, _) in files {
            stamp.add(path);
        }
        for (_, site) in folder.map(folder::list).and_then(Result::ok).unwrap_or_default() {
            stamp.add(site.join(folder::SETTINGS));
            let token = site.join(folder::TOKEN);
            // Another token is read by itself; only that there is one at all changes the configuration.
            let there = std::fs::read(&token).is_ok_and(|content| !content.trim_ascii().is_empty());
            stamp.0.insert(token, there.then_some([0; 32]));
        }
        stamp
    }
}

impl Stamp {
    fn add(&mut self, path: PathBuf) {
        let content = std::fs::read(&path).ok().map(|content| *blake3::hash(&content).as_bytes());
        self.0.insert(path, content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_every_file_that_matters_and_with_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let sites = folder.path().join("sites");
        write("lockstep.yaml", "one");
        write("sites/acme/site.yaml", "one");
        write("sites/acme/token", "one");
        let origin = Origin::new(&folder.path().join("lockstep.yaml"), &Environment::default());
        let mut last = origin.stamp(Some(&sites));
        for (name, text, changes) in [
            ("lockstep.yaml", "two", true),
            ("lockstep.yaml", "two", false),
            ("conf.d/10.yaml", "one", true),
            ("conf.d/10.txt", "one", false),
            ("sites/acme/site.yaml", "two", true),
            ("sites/acme/token", "another token", false),
            ("sites/acme/token", " ", true),
            ("sites/beta/site.yaml", "one", true),
            ("sites/beta/notes", "one", false),
        ] {
            write(name, text);
            let now = origin.stamp(Some(&sites));
            assert_eq!(now != last, changes, "{name}: {text}");
            last = now;
        }
        std::fs::remove_dir_all(sites.join("beta")).unwrap();
        assert_ne!(origin.stamp(Some(&sites)), last);
    }
}
