use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::store::streams::StreamKey;

/// Two narrowings of one source, which may both list a row.
async fn two() -> [StreamLedger; 2] {
    let clock = Clock::system();
    let store = Store::open_in_memory(clock.clone()).unwrap();
    let open = |fingerprint: &'static str| {
        store.write(move |db| {
            let connection = connections::register(db, "acme")?;
            let (source, scope) = ("unified_audit", "tree");
            let stream =
                streams::open(db, &StreamKey { connection: connection.id, source, scope, fingerprint })?;
            Ok((connection, stream))
        })
    };
    let rows = [open("action=2").await.unwrap(), open("action=3").await.unwrap()];
    rows.map(|(connection, stream)| StreamLedger {
        store: store.clone(),
        clock: clock.clone(),
        connection: connection.id,
        epoch: connection.epoch,
        source: "unified_audit",
        kind: Kind::Event,
        stream: stream.id,
        set: stream.set,
        organization: None,
    })
}

fn row(number: u128, (enter, owed): (bool, bool)) -> RowCommit {
    RowCommit {
        uid: Uuid::from_u128(number),
        organization: OrganizationId::new("own"),
        organization_name: None,
        vendor_id: None,
        time: Some(1_000 * SECOND),
        at: 1_000 * SECOND,
        other: Some(2_000 * SECOND),
        enter,
        owed,
        body: Bytes::from_static(b"{}"),
    }
}

const WITHHELD: (bool, bool) = (false, false);
const NEW: (bool, bool) = (true, false);
const OWED: (bool, bool) = (true, true);

async fn entered(ledger: &StreamLedger, rows: impl IntoIterator<Item = RowCommit>) -> u64 {
    ledger.commit(Commit { rows: rows.into_iter().collect(), ..Commit::default() }).await.unwrap()
}

#[tokio::test]
async fn a_withheld_row_enters_once_when_its_time_is_owed_and_not_before() {
    let [ledger, _] = two().await;
    assert_eq!(entered(&ledger, [row(1, WITHHELD)]).await, 0);
    assert_eq!(entered(&ledger, [row(1, NEW), row(1, WITHHELD)]).await, 0, "seen, and not owed");
    assert_eq!(entered(&ledger, [row(1, OWED), row(1, OWED), row(2, OWED)]).await, 2);
    assert_eq!(entered(&ledger, [row(1, OWED), row(2, OWED), row(1, WITHHELD)]).await, 0);
    assert_eq!(entered(&ledger, [row(1, OWED)]).await, 0, "it is not withheld again");
}

#[tokio::test]
async fn a_row_that_two_narrowings_withhold_enters_with_the_first_that_owes_it() {
    let [first, second] = two().await;
    assert_eq!(entered(&first, [row(1, WITHHELD)]).await + entered(&second, [row(1, WITHHELD)]).await, 0);
    assert_eq!(entered(&second, [row(1, OWED)]).await, 1);
    assert_eq!(entered(&first, [row(1, OWED)]).await, 0);
    assert_eq!(entered(&first, [row(2, WITHHELD)]).await, 0);
    assert_eq!(entered(&second, [row(2, NEW)]).await, 1, "new here, and nowhere delivered");
    assert_eq!(entered(&first, [row(2, OWED)]).await, 0);
}

#[tokio::test]
async fn what_lies_before_the_retention_is_withheld_no_longer() {
    let [ledger, _] = two().await;
    assert_eq!(entered(&ledger, [row(1, WITHHELD)]).await, 0);
    let holds = || {
        let set = ledger.set;
        ledger.store.read(move |db| withheld::holds(db, set, Uuid::from_u128(1)))
    };
    ledger.prune(1_500 * SECOND, false).await.unwrap();
    assert!(holds().await.unwrap(), "one of its times is young enough");
    ledger.prune(2_500 * SECOND, false).await.unwrap();
    assert!(!holds().await.unwrap());
}
