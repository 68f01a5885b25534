//! Details of computers: one record of each, which never ends and changes now and then.

use super::*;

fn record(proxy: bool) -> Value {
    json!({ "computerId": "c0", "name": "ws-0", "useProxyServer": proxy, "options": ["a"], "totalRows": 1 })
}

async fn world(computers: usize) -> World {
    let world = World::of("computer_details", computers).await;
    world.script(|script| script.counts = false);
    show(&world, computers, |_| record(false));
    world
}

fn show(world: &World, computers: usize, record: impl Fn(usize) -> Value) {
    world.script(|script| {
        for number in 0..computers {
            script.rows.insert(format!("c{number}"), vec![record(number)]);
        }
    });
}

#[tokio::test]
async fn each_way_in_which_a_computer_is_set_is_told_once_whenever_it_comes_back() {
    let mut world = world(1).await;
    let mut uids = HashSet::new();
    assert_eq!(told(&world.poll(false).await), [(Change::New, "c0/details")]);
    for proxy in [true, false, true] {
        show(&world, 1, |_| record(proxy));
        let mut entries = Vec::new();
        for _ in 0..3 {
            world.script(|script| script.now += 2 * HOUR);
            entries.extend(world.poll(false).await);
        }
        assert_eq!(told(&entries), [(Change::Changed, "c0/details")]);
        uids.insert(entries[0].2);
    }
    assert_eq!(uids.len(), 3, "each with a uid of its own");
}

#[tokio::test]
async fn a_computer_is_asked_once_when_it_is_new_or_set_otherwise_and_else_within_a_sweep() {
    let mut world = world(60).await;
    world.poll(false).await;
    assert_eq!(world.asked().len(), 60, "a request each, as soon as they are known");
    world.poll(false).await;
    assert_eq!(world.asked().len(), 0);
    world.computer("c7", true).await;
    world.computer("c60", false).await;
    world.poll(false).await;
    assert_eq!(world.asked().into_iter().collect::<HashSet<_>>(), ["c7", "c60"].map(str::to_owned).into());
    for _ in 0..60 {
        world.script(|script| script.now += 2 * MINUTE);
        world.poll(false).await;
    }
    let asked = world.asked();
    assert!(asked.len() <= 122 && asked.iter().collect::<HashSet<_>>().len() == 61, "{}", asked.len());
}
