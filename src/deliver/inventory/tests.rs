use std::fs;

use super::*;
use crate::model::OrganizationId;
use crate::store::snapshots::{self, Known, Presence};
use crate::store::streams::{self, StreamKey};

/// A site with one computer, of whose listing the stream has these notes.
async fn site(store: &Store, site: &'static str, notes: &'static str) {
    let entered = store.write(move |db| {
        let connection = connections::register(db, site)?.id;
        let key = StreamKey { connection, source: SOURCE, scope: "tree", fingerprint: "" };
        let stream = streams::open(db, &key)?;
        streams::set_notes(db, stream.id, notes)?;
        let organization =
            connections::organization(db, connection, &OrganizationId::new(site), Some(site), 0)?;
        let row = format!("{{\"computerId\":\"{site}-1\",\"hostname\":\"pc of {site}\"}}").into_bytes();
        let known = Known { fingerprint: vec![1], row, presence: Presence::Present, restated: 0 };
        snapshots::set(db, stream.set, organization, &format!("{site}-1"), &known, 0)
    });
    entered.await.unwrap();
}

#[tokio::test]
async fn a_site_that_was_never_listed_completely_is_left_out_and_said_and_alone_it_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.ndjson");
    let clock = Clock::shifted(chrono::Duration::zero(), 1);
    let store = Store::open_in_memory(clock.clone()).unwrap();
    let (status, told) = watch::channel(SinkStatus::new("out", "file", "raw", clock.now()));
    let inventory = Inventory {
        paths: vec![path.clone()],
        select: Arc::default(),
        redact: None,
        store: store.clone(),
        clock,
        status,
    };
    let lacking = || told.borrow().inventory.clone().unwrap().lacking;
    // Its first listing has begun, and some of it is stored.
    site(&store, "acme", "{\"complete\":null}").await;
    inventory.make().await.unwrap();
    assert!(!path.exists());
    site(&store, "beta", "{\"complete\":5}").await;
    inventory.make().await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("pc of beta") && !text.contains("pc of acme"), "{text}");
    assert_eq!(lacking(), ["acme"]);
    site(&store, "acme", "{\"complete\":6}").await;
    inventory.make().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    assert!(lacking().is_empty());
}

#[test]
fn until_the_new_list_is_whole_a_reader_finds_the_former_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lists/all.csv");
    let read = || fs::read_to_string(&path).unwrap();
    Drafts::begin(std::slice::from_ref(&path)).unwrap().finish().unwrap();
    let former = read();
    for round in 0..2 {
        let drafts = Drafts::begin(std::slice::from_ref(&path)).unwrap();
        assert_eq!(read(), former);
        let drafts = drafts.add(&[b"one,".to_vec()]).unwrap().add(&[b"two\r\n".to_vec()]).unwrap();
        assert_eq!(read(), former);
        if round == 0 {
            // The program ends here: what is left of it is in nobody's way.
            drop(drafts);
            continue;
        }
        drafts.finish().unwrap();
        assert_eq!(read(), former.clone() + "one,two\r\n");
        assert_eq!(fs::read_dir(folder.path().join("lists")).unwrap().count(), 1);
    }
}

#[test]
fn an_error_names_the_file_and_says_that_the_former_list_stays() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let Err(error) = Drafts::begin(&[folder.path().join("file/all.csv")]) else { panic!("it cannot begin") };
    let text = error.to_string();
    assert!(text.contains("file") && text.contains("the former list stays"), "{text}");
}
