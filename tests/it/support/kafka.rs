//! A real Apache Kafka, started by `tests/services/kafka`, and an independent client that reads it back.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

use serde::Deserialize;

use super::say;

/// A running cluster; its processes end with the test process, however that ends.
pub(crate) struct Kafka {
    cluster: Cluster,
    door: Mutex<Door>,
}

struct Door {
    _script: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What the script says of itself.
#[derive(Debug, Deserialize)]
struct Cluster {
    nodes: BTreeMap<u32, Node>,
    ca: PathBuf,
    other_ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    users: BTreeMap<String, String>,
}

/// The ports of a node.
#[derive(Debug, Deserialize)]
struct Node {
    plaintext: u16,
    ssl: u16,
    sasl_ssl: u16,
}

/// A record as the independent client read it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// One node for all tests that leave it alone. None, said loudly, at a desk where it cannot be had.
static SHARED: LazyLock<Option<Kafka>> = LazyLock::new(|| Kafka::start(1));

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services")
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/parts/python/bin/python")
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

impl Kafka {
    pub(crate) fn shared() -> Option<&'static Self> {
        SHARED.as_ref()
    }

    /// Starts nodes of one's own, to be killed.
    pub(crate) fn start(nodes: u32) -> Option<Self> {
        Self::start_with(nodes, &[])
    }

    /// The same with further settings of the brokers, as `KEY=VALUE`.
    pub(crate) fn start_with(nodes: u32, settings: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = format!("{}/kafka-{}-{number}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let judge =
            Command::new(python()).args(["-c", "import confluent_kafka"]).stderr(Stdio::null()).status();
        let mut missing = None;
        if !judge.is_ok_and(|status| status.success()) {
            missing = Some("the Python package confluent-kafka in target/parts/python".to_owned());
        }
        let mut program = Command::new(folder().join("kafka"));
        program.arg("run").arg(place).args(["--nodes", &nodes.to_string()]);
        program.args(settings.iter().flat_map(|setting| ["--set", setting]));
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = program.spawn().unwrap();
        let orders = script.stdin.take().unwrap();
        let mut answers = BufReader::new(script.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let cluster = serde_json::from_str(&line);
        if cluster.is_err() {
            missing = Some("Apache Kafka, which needs Java 17, Maven and OpenSSL".to_owned());
        }
        if let Some(missing) = missing {
            // Without orders the script ends.
            drop(orders);
            drop(script.wait());
            assert!(!in_ci(), "missing: {missing}");
            say(format_args!("******** SKIPPED: tests with a real Kafka need {missing} ********"));
            return None;
        }
        let door = Mutex::new(Door { _script: script, orders, answers });
        Some(Self { cluster: cluster.unwrap(), door })
    }

    fn list(&self, port: impl Fn(&Node) -> u16) -> String {
        let brokers: Vec<_> =
            self.cluster.nodes.values().map(|node| format!("127.0.0.1:{}", port(node))).collect();
        brokers.join(",")
    }

    /// Brokers that let in everybody.
    pub(crate) fn plain(&self) -> String {
        self.list(|node| node.plaintext)
    }

    pub(crate) fn tls(&self) -> String {
        self.list(|node| node.ssl)
    }

    pub(crate) fn sasl(&self) -> String {
        self.list(|node| node.sasl_ssl)
    }

    pub(crate) fn ca(&self) -> String {
        self.cluster.ca.display().to_string()
    }

    /// Of a CA that signed nothing here.
    pub(crate) fn other_ca(&self) -> String {
        self.cluster.other_ca.display().to_string()
    }

    /// A client's certificate and its key.
    pub(crate) fn client(&self) -> (String, String) {
        (self.cluster.cert.display().to_string(), self.cluster.key.display().to_string())
    }

    pub(crate) fn password(&self, user: &str) -> &str {
        &self.cluster.users[user]
    }

    /// `kill 1`, `start 1`, `cut 1`, `go 1`; waits until it is done.
    pub(crate) fn order(&self, order: &str) {
        let mut door = self.door.lock().unwrap();
        writeln!(door.orders, "{order}").unwrap();
        door.orders.flush().unwrap();
        let mut answer = String::new();
        door.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "{order}");
    }

    pub(crate) fn client_tool(&self, arguments: &[&str]) -> String {
        let mut program = Command::new(python());
        program.arg(folder().join("kafka-client")).arg(self.plain()).args(arguments);
        let output = program.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every committed record of topics.
    pub(crate) fn read(&self, topics: &[&str]) -> Vec<Message> {
        let text = self.client_tool(&[&["read"], topics].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
