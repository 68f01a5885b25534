//! Which applications match what is told: asked once and stored with it, and never at the cost of an event.

use std::time::Duration;

use super::*;
use crate::record::enrichment::Known;

/// A stream that asks a portal that answers so.
async fn asking(answer: Answers) -> World {
    let mut world = World::new().await;
    world.stream.settings.parts.as_mut().unwrap().matching = true;
    world.script().matching = Some(answer);
    world
}

/// One application, called like the path; none for paths that begin with `-`.
fn named(path: &str) -> Result<Matched, Failure> {
    let applications =
        if path.starts_with('-') { "[]".to_owned() } else { json!([{ "name": path }]).to_string() };
    Ok(Matched { applications, more: 0 })
}

impl World {
    /// Polls once. Answers the requests of which something is told, with the applications that match, and the paths that
    /// were asked about.
    async fn told(&mut self) -> (Vec<(String, Option<String>)>, Vec<String>) {
        let (_, outcome) = self.try_poll().await;
        outcome.unwrap();
        (self.matched().await, self.questions())
    }

    fn questions(&self) -> Vec<String> {
        std::mem::take(&mut self.script().questions).into_iter().map(|(_, path)| path).collect()
    }

    async fn matched(&mut self) -> Vec<(String, Option<String>)> {
        let (connection, after) = (self.stream.settings.connection, self.read);
        let read = move |db: &Connection| outbox::read_after(db, connection, Lane::Live, after, 1 << 30);
        let mut told = Vec::new();
        for chunk in &self.stream.store.read(read).await.unwrap() {
            self.read = chunk.last;
            let (entries, known) = chunk.entries_and_known::<Known<'_>>().unwrap();
            for (place, entry) in entries.iter().enumerate() {
                assert!(self.uids.insert(entry.uid), "{} was told twice", entry.row);
                let matching = known.of(place).matching.map(|matching| matching.applications.to_owned());
                told.push((entry.vendor_id.unwrap().to_owned(), matching));
            }
        }
        told.sort();
        told
    }

    fn trouble(&self) -> String {
        self.stream.memory.asking.trouble().unwrap_or_default()
    }
}

fn told(id: &str, applications: Option<&str>) -> (String, Option<String>) {
    (id.to_owned(), applications.map(str::to_owned))
}

#[tokio::test]
async fn it_is_asked_once_for_what_is_told_of_its_organization_and_stored_with_the_entry() {
    let mut world = asking(named).await;
    world.add(&[("a", 1, None), ("-b", 17, None), ("c", 4, Some(10))]);
    world.try_poll().await.1.unwrap();
    assert!(world.script().questions.iter().all(|(organization, _)| organization.as_str() == "o"));
    let mut asked = world.questions();
    asked.sort();
    assert_eq!(asked, ["-b", "a", "c"]);
    let (a, c) = (r#"[{"name":"a"}]"#, r#"[{"name":"c"}]"#);
    assert_eq!(world.matched().await, [told("-b", Some("[]")), told("a", Some(a)), told("c", Some(c))]);
    assert_eq!(world.told().await, (Vec::new(), Vec::new()), "nothing is told, and nothing asked");
    world.decide("a", 10);
    assert_eq!(
        world.told().await,
        (vec![told("a", Some(a))], vec!["a".to_owned()]),
        "another step, told now"
    );
    assert_eq!(world.trouble(), "");
}

#[tokio::test]
async fn where_nobody_wants_it_nothing_is_asked() {
    let mut world = asking(named).await;
    world.stream.settings.parts.as_mut().unwrap().matching = false;
    world.add(&[("a", 1, None), ("c", 4, Some(10))]);
    assert_eq!(world.told().await, (vec![told("a", None), told("c", None)], Vec::new()));
}

#[tokio::test]
async fn a_backlog_of_decided_requests_is_not_asked_about_and_of_pending_ones_so_many_in_a_poll() {
    let mut world = asking(named).await;
    let request = |number: usize, status, acted| Request {
        id: format!("{status}/{number}"),
        status,
        acted,
        assignee: "",
    };
    world.script().requests.extend((0..300).map(|number| request(number, 4, Some(NOW - 2 * DAY))));
    let (entries, asked) = world.told().await;
    assert_eq!((entries.len(), asked.len()), (300, 0));
    world.script().requests.extend((0..120).map(|number| request(number, 1, None)));
    let (entries, asked) = world.told().await;
    let answered = entries.iter().filter(|(_, matching)| matching.is_some()).count();
    assert_eq!((entries.len(), asked.len(), answered), (120, 50, 50));
    assert!(world.trouble().contains("more was told at once"), "{}", world.trouble());
    assert_eq!(world.told().await.1, Vec::<String>::new(), "what went out is not asked about later");
    assert_eq!(world.trouble(), "", "it passed with its poll");
}

#[tokio::test]
async fn refused_the_event_goes_out_at_once_it_is_said_and_the_portal_is_left_alone_for_an_hour() {
    let denied = |_: &str| Err(Failure::MissingRole(Answer { status: 403, ..Answer::default() }));
    let strange = |_: &str| Err(Failure::Undecodable { reason: "a number".to_owned() });
    let refusals: [(Answers, &str); 4] = [
        (denied, "not documented"),
        (|_| Err(answered(404)), "404"),
        (|_| Err(answered(500)), "set `enrich: []`"),
        (strange, "a number"),
    ];
    for (refusal, said) in refusals {
        let mut world = asking(refusal).await;
        world.add(&[("a", 1, None), ("b", 1, None)]);
        let (entries, asked) = world.told().await;
        assert_eq!((entries, asked.len()), (vec![told("a", None), told("b", None)], 1));
        assert!(world.trouble().contains(said), "{}", world.trouble());
        world.script().matching = Some(named);
        world.add(&[("c", 1, None)]);
        assert_eq!(world.told().await, (vec![told("c", None)], Vec::new()));
        world.script().now += 60 * MINUTE;
        world.add(&[("d", 1, None)]);
        let d = r#"[{"name":"d"}]"#;
        assert_eq!(world.told().await, (vec![told("d", Some(d))], vec!["d".to_owned()]));
        assert_eq!(world.trouble(), "");
    }
}

#[tokio::test]
async fn an_outage_costs_what_is_told_meanwhile_its_answer_and_the_portal_is_left_alone_for_a_while() {
    let outages: [(Answers, i64); 3] = [
        (|_| Err(Failure::Unreachable("away".to_owned())), 15),
        (|_| Err(answered(503)), 15),
        // To be asked to wait holds back all requests of the token.
        (
            |_| {
                Err(Failure::Throttled {
                    until: chrono::DateTime::UNIX_EPOCH,
                    wait: Duration::from_secs(600),
                })
            },
            60,
        ),
    ];
    for (outage, minutes) in outages {
        let mut world = asking(outage).await;
        world.add(&[("a", 1, None), ("b", 1, None)]);
        let (entries, asked) = world.told().await;
        assert_eq!((entries, asked.len()), (vec![told("a", None), told("b", None)], 1));
        assert!(world.trouble().contains("left alone"), "{}", world.trouble());
        world.script().matching = Some(named);
        // Each poll takes a minute.
        world.script().now += (minutes - 2) * MINUTE;
        world.add(&[("c", 1, None)]);
        assert_eq!(world.told().await, (vec![told("c", None)], Vec::new()));
        assert!(world.trouble().contains("left alone"), "{}", world.trouble());
        world.script().now += MINUTE;
        world.add(&[("d", 1, None)]);
        assert_eq!(world.told().await.0, [told("d", Some(r#"[{"name":"d"}]"#))]);
        assert_eq!(world.trouble(), "");
    }
}

#[tokio::test]
async fn a_portal_that_never_answers_holds_up_no_event_for_longer_than_all_questions_may_take() {
    let mut world = asking(named).await;
    assert_eq!(world.stream.memory.asking.patience, Duration::from_secs(15));
    world.stream.memory.asking.patience = Duration::from_millis(300);
    world.script().matching = None;
    world.add(&[("a", 1, None), ("b", 1, None), ("c", 4, Some(5)), ("d", 10, Some(5))]);
    let began = tokio::time::Instant::now();
    let (entries, asked) = world.told().await;
    assert_eq!((entries.len(), asked.len()), (4, 1));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(world.trouble().contains("within 300ms"), "{}", world.trouble());
}

#[tokio::test]
async fn a_crash_between_asking_and_storing_tells_it_once_and_with_its_answer() {
    let mut world = asking(named).await;
    world.add(&[("a", 1, None), ("old", 4, Some(3 * 24 * 60))]);
    world.script().matching = None;
    {
        let poll = world.stream.poll();
        tokio::pin!(poll);
        while world.played.0.lock().unwrap().questions.is_empty() {
            tokio::select! {
                _ = &mut poll => panic!("it waits for an answer"),
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
    }
    assert_eq!(world.matched().await, [], "it is neither told nor forgotten");
    world.reload().await;
    world.questions();
    world.script().matching = Some(named);
    let (entries, asked) = world.told().await;
    assert_eq!(entries, [told("a", Some(r#"[{"name":"a"}]"#)), told("old", None)]);
    assert_eq!(asked, ["a"]);
    assert_eq!(world.told().await, (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn what_is_asked_about_when_the_program_is_told_to_stop_is_told_by_the_next_start_with_its_answer() {
    let mut world = asking(|path| match path {
        "b" => Err(Failure::Settings(STOPPED.to_owned())),
        path => named(path),
    })
    .await;
    world.add(&[("a", 1, None), ("b", 1, None), ("old", 4, Some(3 * 24 * 60))]);
    let (_, outcome) = world.try_poll().await;
    assert!(matches!(outcome, Err(CollectError::Stopped)));
    assert!(
        world.matched().await.iter().all(|(id, _)| id == "old"),
        "neither without an answer nor forgotten"
    );
    world.reload().await;
    world.questions();
    world.script().matching = Some(named);
    let (mut entries, asked) = world.told().await;
    entries.retain(|(id, _)| id != "old");
    assert_eq!(
        entries,
        [("a", r#"[{"name":"a"}]"#), ("b", r#"[{"name":"b"}]"#)].map(|(id, known)| told(id, Some(known)))
    );
    assert_eq!(asked.len(), 2);
    assert_eq!(world.trouble(), "");
}

#[tokio::test]
async fn what_another_site_tells_is_not_asked_about() {
    let mut world = asking(named).await;
    let claim = |db: &WriterDb| {
        let other = connections::register(db, "other")?.id;
        connections::claim(db, &OrganizationId::new("o"), "approval_requests", other)
    };
    world.stream.store.write(claim).await.unwrap();
    world.add(&[("a", 1, None)]);
    assert_eq!(world.told().await, (Vec::new(), Vec::new()));
}
