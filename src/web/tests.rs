use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::deliver::SinkCondition;
use crate::status::tests::{board, sink};

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

async fn served(board: Board) -> Served {
    let (listener, address) = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(listener, board, stop.clone()));
    Served { address, stop, task }
}

impl Served {
    async fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// A client that begins a request and never ends it.
    async fn dawdler(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await.unwrap();
        stream
    }
}

fn is_200(head: &str) -> bool {
    head.starts_with("HTTP/1.0 200")
}

#[tokio::test]
async fn a_program_that_is_well_says_so_on_every_path() {
    let served = served(board().0).await;
    for (path, expected) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let (head, body) = served.get(path).await;
        assert!(is_200(&head) && body == expected, "{head} {body}");
    }
    let (head, body) = served.get("/fresh").await;
    assert!(is_200(&head) && body == r#"{"fresh":true,"problems":[]}"#, "{head} {body}");
    let (head, body) = served.get("/metrics").await;
    assert!(is_200(&head) && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nlockstep_fresh 1\n"), "{body}");
}

#[tokio::test]
async fn no_row_and_no_site_can_be_looked_at() {
    let served = served(board().0).await;
    for path in ["/status", "/", "/confirm-removed?site=acme"] {
        assert!(served.get(path).await.0.starts_with("HTTP/1.0 404"), "{path}");
    }
}

#[tokio::test]
async fn a_problem_turns_fresh_red_and_leaves_the_program_alive_and_ready() {
    let (board, _store) = board();
    board.add_sink(sink(SinkCondition::Held));
    let served = served(board).await;
    let (head, body) = served.get("/fresh").await;
    assert!(head.starts_with("HTTP/1.0 503"), "{head}");
    let told: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(told["problems"][0].as_str().unwrap().contains("sink out delivers nothing"), "{body}");
    assert!(is_200(&served.get("/livez").await.0) && is_200(&served.get("/readyz").await.0));
    assert!(served.get("/metrics").await.1.contains("\nlockstep_fresh 0\n"));
}

#[tokio::test]
async fn a_state_that_is_gone_is_neither_ready_nor_alive() {
    let (board, store) = board();
    let served = served(board).await;
    store.close().await;
    for path in ["/livez", "/readyz", "/fresh", "/metrics"] {
        let (head, body) = served.get(path).await;
        assert!(head.starts_with("HTTP/1.0 503") && !body.is_empty(), "{path} {head}");
    }
}

#[tokio::test]
async fn clients_that_dawdle_keep_nobody_out() {
    let served = served(board().0).await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(served.dawdler().await);
    }
    assert!(is_200(&served.get("/livez").await.0));
    let mut rest = [0; 100];
    let ended = tokio::time::timeout(Duration::from_secs(5), slow[0].read(&mut rest)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "the oldest had to go");
    let last = tokio::time::timeout(Duration::from_millis(50), slow[99].read(&mut rest)).await;
    assert!(last.is_err(), "the youngest may stay a while");
}

#[tokio::test]
async fn a_client_that_dawdles_does_not_hold_up_the_stop() {
    let served = served(board().0).await;
    let mut slow = served.dawdler().await;
    assert!(is_200(&served.get("/livez").await.0));
    served.stop.cancel();
    tokio::time::timeout(Duration::from_secs(3), served.task).await.unwrap().unwrap().unwrap();
    let mut rest = [0; 100];
    let ended = tokio::time::timeout(Duration::from_secs(1), slow.read(&mut rest)).await;
    assert!(ended.is_ok(), "its connection ends with the listener");
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_the_way_out() {
    let (_listener, address) = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let said = listen(address).await.unwrap_err().to_string();
    assert!(said.contains(&address.to_string()) && said.contains("server.ops"), "{said}");
}
