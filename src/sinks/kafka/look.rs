//! `lockstep check --online`: reaches the brokers, looks for the topics, tries a transaction, and creates what is missing
//! when asked to. Delivers nothing.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::context::Context;
use super::error::create_command;
use super::session::{Opening, Session};
use super::settings::Secrets;
use super::{ID_PREFIX, KafkaConfig, OPENING, Transactional, Trouble, blocking, hex};
use crate::clock::Clock;
use crate::format::Format;
use crate::model::Kind;

/// How long one request of an administrator may take.
const ASKING: Duration = Duration::from_secs(30);
/// Segments of the positions are small, so that the topic is compacted often and read quickly.
const POSITIONS_SETTINGS: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("segment.bytes", "16777216")];

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub about: String,
    pub text: String,
    /// It keeps the sink from delivering as configured.
    pub wrong: bool,
}

/// Looks at everything that the sink needs. `places`: the sites with their sources.
pub async fn look(
    name: &str,
    config: &KafkaConfig,
    format: Format,
    places: &[(String, String)],
    create: bool,
    clock: &Clock,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match ask(name, config, format, places, create, clock, &mut findings).await {
        Ok(()) => {}
        Err(trouble) => findings.push(wrong("kafka", trouble.to_string())),
    }
    findings
}

async fn ask(
    name: &str,
    config: &KafkaConfig,
    format: Format,
    places: &[(String, String)],
    create: bool,
    clock: &Clock,
    findings: &mut Vec<Finding>,
) -> Result<(), Trouble> {
    let secrets = config.secrets().await?;
    let opening = |transactional_id: Option<String>| Opening {
        sink: name.to_owned(),
        config: config.clone(),
        format,
        secrets: secrets.clone(),
        clock: clock.clone(),
        batch_bytes: 0,
        transactional_id,
    };
    let begin = opening(None);
    let session =
        blocking("reaching the brokers", OPENING, |patience| Session::connect(begin, None, patience)).await?;
    findings.push(right("brokers", format!("{} answer", config.brokers.join(","))));

    let mut wanted = Vec::new();
    for (template, kind) in [(&config.events, Kind::Event), (&config.devices, Kind::Device)] {
        let places = places.iter().map(|(site, source)| (site.as_str(), source.as_str()));
        match template.foreseen(places, kind) {
            Some(topics) => wanted.extend(topics),
            None => findings.push(right(
                "topics",
                format!("{template} names a topic for each organization: each must exist before it is delivered to"),
            )),
        }
    }
    let transactional = config.transactional != Transactional::Never;
    wanted.extend(transactional.then(|| config.positions_topic.clone()));
    wanted.sort();
    wanted.dedup();
    if wanted.len() > KafkaConfig::FEW_TOPICS && !config.many_topics {
        return Err(Trouble::ManyTopics);
    }
    let mut ready = true;
    for topic in wanted {
        ready &= topic_found(&session, config, (&secrets, clock), &topic, create, findings).await;
    }
    if !transactional {
        findings.push(right("delivery", config.promise()));
    } else if ready {
        let opening = opening(Some(format!("{ID_PREFIX}{name}-check-{}", hex(clock.bytes()))));
        let tried = blocking("trying a transaction", OPENING, |patience| {
            let session = Session::connect(opening, None, patience)?;
            session.take_over(patience)?;
            session.probe(patience)
        });
        match tried.await {
            Ok(()) => findings
                .push(right("delivery", "exactly once: a transaction was begun and aborted".to_owned())),
            Err(Trouble::NoTransactions { why, .. }) if config.transactional == Transactional::Auto => {
                findings.push(right(
                    "delivery",
                    format!("at least once: the brokers keep no transactions ({why})"),
                ));
            }
            Err(trouble) => findings.push(wrong("delivery", trouble.to_string())),
        }
    }
    Ok(())
}

async fn topic_found(
    session: &Arc<Session>,
    config: &KafkaConfig,
    known: (&Secrets, &Clock),
    topic: &str,
    create: bool,
    findings: &mut Vec<Finding>,
) -> bool {
    let (asked, name) = (Arc::clone(session), topic.to_owned());
    let found =
        blocking("looking at topics", ASKING, move |patience| asked.topic_exists(Some(&name), patience));
    let about = format!("topic {topic}");
    let finding = match found.await {
        Ok(()) if topic == config.positions_topic => match kept_for_ever(config, known, topic).await {
            Some(policy) if policy != "compact" => wrong(
                &about,
                format!(
                    "is there with cleanup.policy={policy}, so positions would be forgotten: kafka-configs.sh \
                     --bootstrap-server {} --alter --topic {topic} --add-config cleanup.policy=compact",
                    config.brokers.join(",")
                ),
            ),
            _ => right(&about, "is there".to_owned()),
        },
        Ok(()) => right(&about, "is there".to_owned()),
        Err(Trouble::NoTopic { .. }) if create => match make(config, known, topic).await {
            Ok(()) => right(&about, "was created".to_owned()),
            Err(why) => wrong(&about, format!("cannot be created: {why}")),
        },
        Err(Trouble::NoTopic { command, .. }) => wrong(
            &about,
            format!("is MISSING: `lockstep check -c FILE --online --create` creates it, or {command}"),
        ),
        Err(trouble) => wrong(&about, trouble.to_string()),
    };
    let there = !finding.wrong;
    findings.push(finding);
    there
}

fn administrator(config: &KafkaConfig, known: (&Secrets, &Clock)) -> Result<AdminClient<Context>, String> {
    let (secrets, clock) = known;
    let client: ClientConfig = config.client(secrets);
    client.create_with_context(Context::new("check", config.bearer(clock))).map_err(|error| error.to_string())
}

async fn make(config: &KafkaConfig, known: (&Secrets, &Clock), topic: &str) -> Result<(), String> {
    let number = |given: Option<u32>| given.and_then(|number| i32::try_from(number).ok()).unwrap_or(-1);
    let replication = TopicReplication::Fixed(number(config.replication));
    let positions = topic == config.positions_topic;
    let partitions = if positions { 1 } else { number(config.partitions) };
    let mut wanted = NewTopic::new(topic, partitions, replication);
    for (key, value) in POSITIONS_SETTINGS.iter().filter(|_| positions) {
        wanted = wanted.set(key, value);
    }
    let options = AdminOptions::new().request_timeout(Some(ASKING)).operation_timeout(Some(ASKING));
    let made = administrator(config, known)?.create_topics(&[wanted], &options).await;
    match made.map_err(|error| error.to_string())?.into_iter().next() {
        Some(Err((_, Code::TopicAlreadyExists))) | Some(Ok(_)) => Ok(()),
        Some(Err((_, code))) => Err(format!("{code}; {}", create_command(config, topic))),
        None => Err("no answer".to_owned()),
    }
}

/// How a topic forgets, if we may know.
async fn kept_for_ever(config: &KafkaConfig, known: (&Secrets, &Clock), topic: &str) -> Option<String> {
    let options = AdminOptions::new().request_timeout(Some(ASKING));
    let administrator = administrator(config, known).ok()?;
    let described =
        administrator.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    let resource = described.into_iter().next()?.ok()?;
    resource.get("cleanup.policy")?.value.clone()
}

fn right(about: &str, text: String) -> Finding {
    Finding { about: about.to_owned(), text, wrong: false }
}

fn wrong(about: &str, text: String) -> Finding {
    Finding { about: about.to_owned(), text, wrong: true }
}
