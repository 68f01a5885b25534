//! An organization that goes from one site to another, and back.

use super::*;

#[tokio::test]
async fn what_a_site_gives_free_goes_on_at_the_next_one_where_it_was() {
    let mut first = World::new().await;
    first.script(|script| script.rows = (0..3).map(|n| ("a", format!("c{n}"), "Secure")).collect());
    let mut uids: HashSet<Uuid> = first.poll().await.iter().map(|one| one.uid).collect();
    let (store, played) = (first.stream.store.clone(), first.played);
    let mut second = World { played, stream: open(&store, played, "other", tree()).await, read: 0 };
    assert_eq!(second.poll().await, [], "the first one tells of it");
    let connection = first.stream.settings.connection;
    store.write(move |db| connections::release_all_but(db, connection, &[].into())).await.unwrap();
    first.script(|script| script.rows[2].2 = "Learning");
    // What it took over it also tells as it is, in its own time.
    let becomes = |mut seen: Vec<Seen>| {
        seen.retain(|one| one.change != Change::Restated);
        seen
    };
    let changed = becomes(second.poll().await);
    assert_eq!(told(&changed), [(Change::Changed, "c2")], "the others are as they were told");
    assert_eq!(changed[0].previous, Some(json!("Secure")));
    first.script(|script| script.rows[2].2 = "Secure");
    let back = becomes(second.poll().await);
    assert_eq!(told(&back), [(Change::Changed, "c2")]);
    assert!(changed.iter().chain(&back).all(|one| uids.insert(one.uid)), "no uid stands for two states");
    first.script(|script| drop(script.rows.remove(1)));
    for _ in 0..3 {
        assert_eq!(first.poll().await, [], "another one tells of it now");
    }
    assert_eq!([told(&second.poll().await), told(&second.poll().await)].concat(), [(Change::Removed, "c1")]);
}

#[tokio::test]
async fn what_goes_to_another_site_and_back_never_takes_a_uid_twice_and_misses_what_is_removed_meanwhile() {
    let mut first = World::new().await;
    first.script(|script| script.rows = (0..4).map(|n| ("a", format!("c{n}"), "Secure")).collect());
    let mut uids: HashSet<Uuid> = first.poll().await.iter().map(|one| one.uid).collect();
    let (store, played) = (first.stream.store.clone(), first.played);
    let second = World { played, stream: open(&store, played, "other", tree()).await, read: 0 };
    let (mut owner, mut other) = (first, second);
    for (round, mode) in ["Learning", "Secure", "Learning", "Secure", "Learning"].into_iter().enumerate() {
        let connection = owner.stream.settings.connection;
        store.write(move |db| connections::release_all_but(db, connection, &[].into())).await.unwrap();
        std::mem::swap(&mut owner, &mut other);
        owner.script(|script| script.rows[0].2 = mode);
        if round == 2 {
            owner.script(|script| drop(script.rows.remove(3)));
        }
        let becomes: Vec<Seen> = {
            let (one, two) = (owner.poll().await, owner.poll().await);
            one.into_iter().chain(two).filter(|one| one.change != Change::Restated).collect()
        };
        let expected = match round {
            2 => vec![(Change::Changed, "c0"), (Change::Removed, "c3")],
            _ => vec![(Change::Changed, "c0")],
        };
        assert_eq!(told(&becomes), expected, "round {round}");
        assert!(
            becomes.iter().all(|one| uids.insert(one.uid)),
            "no uid stands for two states, round {round}"
        );
        assert_eq!(other.poll().await, [], "round {round}");
    }
}
