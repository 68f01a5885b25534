//! Check-ins, which the portal lists in whatever order, and some of them late.

use super::*;

/// One that happened then and is listed from then on.
#[derive(Clone, Copy)]
struct Moment {
    at: Micros,
    listed: Micros,
}

impl Moment {
    fn at(at: Micros) -> Self {
        Self { at, listed: at }
    }

    fn row(self, id: usize) -> Value {
        json!({ "computerCheckinId": id, "dateTime": shown(self.at) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    NewestFirst,
    OldestFirst,
    /// What the portal received last stands first.
    ReceivedLast,
}

const ORDERS: [Order; 3] = [Order::NewestFirst, Order::OldestFirst, Order::ReceivedLast];

/// As many computers, which were looked at before anything happened.
async fn began(computers: usize) -> World {
    let mut world = World::of("computer_checkins", computers).await;
    assert_eq!(world.poll(true).await, []);
    world
}

/// What the portal lists of a computer by now, of which these are the moments by their ids.
fn list(world: &World, computer: &str, moments: &[Moment], order: Order) {
    world.script(|script| {
        let now = script.now;
        let mut rows: Vec<_> = moments.iter().enumerate().filter(|(_, one)| one.listed <= now).collect();
        rows.sort_by_key(|(id, one)| match order {
            Order::NewestFirst => (-one.at, *id),
            Order::OldestFirst => (one.at, *id),
            Order::ReceivedLast => (-one.listed, *id),
        });
        let rows = rows.into_iter().map(|(id, one)| one.row(id)).collect();
        script.rows.insert(computer.to_owned(), rows);
    });
}

fn ids(entries: &[(Change, String, Uuid)]) -> Vec<&str> {
    entries.iter().map(|(_, id, _)| id.as_str()).collect()
}

/// Lets more than a sweep pass, then asks about every computer.
async fn swept(world: &mut World) -> Vec<(Change, String, Uuid)> {
    world.script(|script| script.now += 2 * HOUR);
    world.poll(true).await
}

#[tokio::test]
async fn a_check_in_that_is_listed_after_younger_ones_is_told_once_as_long_as_such_are_remembered() {
    for order in ORDERS {
        let mut world = began(1).await;
        // Every hour one, for longer than they are remembered.
        let mut moments: Vec<_> = (1..=80).map(|hour| Moment::at(START + hour * HOUR)).collect();
        world.script(|script| script.now += 80 * HOUR);
        list(&world, "c0", &moments, order);
        assert_eq!(world.poll(true).await.len(), 80, "{order:?}");
        // Nearly as old as is remembered, in the middle of others, and older.
        let now = world.script(|_| ());
        for at in [now - REMEMBERED + HOUR, now - 30 * HOUR - MINUTE, now - REMEMBERED - HOUR] {
            moments.push(Moment { at, listed: now });
        }
        list(&world, "c0", &moments, order);
        let mut told_now = swept(&mut world).await;
        told_now.sort_by(|one, other| one.1.cmp(&other.1));
        assert_eq!(ids(&told_now), ["c0/80", "c0/81"], "{order:?}");
        for _ in 0..30 {
            assert_eq!(swept(&mut world).await, [], "{order:?}");
        }
    }
}

#[tokio::test]
async fn what_is_forgotten_is_not_told_again_when_more_is_to_be_remembered() {
    let mut world = began(1).await;
    let moments: Vec<_> = (0..80).map(|hour| Moment::at(START + hour * HOUR)).collect();
    world.script(|script| script.now += 80 * HOUR);
    list(&world, "c0", &moments, Order::NewestFirst);
    assert_eq!(world.poll(true).await.len(), 80);
    world.stream.settings.remembered = Some(10 * REMEMBERED);
    assert_eq!(swept(&mut world).await, []);
    assert_eq!(swept(&mut world).await, []);
}

#[tokio::test]
async fn a_site_that_takes_over_tells_what_the_other_one_did_not_and_nothing_twice() {
    let mut first = began(1).await;
    let mut second = World::at(&first.stream.store, "beta", first.played, 1).await;
    let moments: Vec<_> = (0..400).map(|hour| Moment::at(START + hour * HOUR)).collect();
    first.script(|script| script.now += 80 * HOUR);
    list(&first, "c0", &moments, Order::NewestFirst);
    assert_eq!(first.poll(true).await.len(), 81);
    // It goes on looking, while the first one is away for longer than is remembered.
    for _ in 0..10 {
        first.script(|script| script.now += 20 * HOUR);
        list(&first, "c0", &moments, Order::NewestFirst);
        second.asked();
        assert_eq!(second.poll(true).await, []);
        assert_eq!(second.asked().len(), 1, "a page is enough of what another site tells");
    }
    let store = first.stream.store.clone();
    let id = first.stream.settings.connection;
    store.write(move |db| connections::release_all_but(db, id, &[].into()).map(drop)).await.unwrap();
    assert_eq!(swept(&mut second).await.len(), 200);
    assert_eq!(swept(&mut second).await, []);
}

/// Whatever happens between looks, also a crash behind each and other settings after it, each check-in that is listed
/// within the time that is remembered is told once, and none twice.
#[tokio::test]
async fn each_check_in_is_told_once_whatever_is_late() {
    for seed in 0..60 {
        let mut dice = StdRng::seed_from_u64(seed);
        let order = ORDERS[dice.random_range(0..ORDERS.len())];
        let mut world = began(2).await;
        let mut shortest = REMEMBERED;
        let mut moments: [Vec<Moment>; 2] = Default::default();
        let mut told = BTreeMap::<String, u32>::new();
        for _ in 0..80 {
            let now = world.script(|script| script.now += i64::from(dice.random_range(1..200u32)) * MINUTE);
            for (computer, moments) in moments.iter_mut().enumerate() {
                for _ in 0..dice.random_range(0..4) {
                    // Some are of an earlier time, and some show only later.
                    let late =
                        i64::from(dice.random_range(0..40u32)) * HOUR * i64::from(dice.random_bool(0.3));
                    let at = now - i64::from(dice.random_range(0..60u32)) * MINUTE;
                    moments.push(Moment { at, listed: at + late });
                }
                list(&world, &format!("c{computer}"), moments, order);
            }
            world.script(|script| script.refused.clear());
            if dice.random_bool(0.2) {
                world.script(|script| script.refused = [("c1".to_owned(), 500)].into());
            }
            if dice.random_bool(0.4) {
                world.stream.poll(dice.random_bool(0.5)).await.ok();
                if dice.random_bool(0.3) {
                    let remembered = dice.random_range(40..80i64) * HOUR;
                    shortest = shortest.min(remembered);
                    world.restart().await;
                    world.stream.settings.remembered = Some(remembered);
                }
            }
        }
        world.script(|script| {
            script.refused.clear();
            script.now += 40 * HOUR;
        });
        for (computer, moments) in moments.iter().enumerate() {
            list(&world, &format!("c{computer}"), moments, order);
        }
        swept(&mut world).await;
        world.read = 0;
        for (_, id, _) in world.entries().await {
            *told.entry(id).or_default() += 1;
        }
        assert!(shortest >= 40 * HOUR, "later than any is");
        let all = moments.iter().map(Vec::len).sum::<usize>();
        assert!(told.values().all(|times| *times == 1), "seed {seed}, {order:?}");
        assert_eq!(told.len(), all, "seed {seed}, {order:?}");
    }
}
