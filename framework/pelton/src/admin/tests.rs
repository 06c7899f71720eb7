//! The endpoint over a real socket, asked with requests written by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{AdminServer, Health, PartitionState, PartitionStatus, Status};
use crate::telemetry::{WorkerMetrics, install_recorder};

#[derive(Default)]
struct Fake {
    ready: AtomicBool,
}

impl Status for Fake {
    fn health(&self) -> Health {
        let mut health = Health::starting("worker-1", "counters");
        if self.ready.load(Ordering::Relaxed) {
            health = Health { ready: true, started: true, reasons: Vec::new(), ..health };
        }
        health
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let mut logins = PartitionStatus::new("user_logins", 2, PartitionState::Running);
        logins.committed = Some(7);
        vec![logins]
    }
}

struct Running {
    address: SocketAddr,
    fake: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn start() -> Running {
    let fake = Arc::new(Fake::default());
    let status: Arc<dyn Status> = Arc::clone(&fake) as Arc<dyn Status>;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = AdminServer::bind(any_port, status, install_recorder().unwrap()).unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.serve(async { drop(stopped.await) }));
    Running { address, fake, stop, task }
}

async fn send(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A refused head may be answered by a reset connection: what arrived before it counts.
        let _reset_or_end = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await.expect("no answer in 10 s")
}

async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    send(address, &request).await
}

fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn probes_follow_the_workers_health_and_say_why() {
    let running = start();
    let (address, fake) = (running.address, &running.fake);
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    for path in ["/readyz", "/startupz"] {
        let answer = get(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let body = body(&answer);
        assert_eq!(body["ok"], false);
        assert_eq!(body["group"], "counters");
        assert_eq!(body["reasons"][0], "the worker has not joined its group yet");
    }
    fake.ready.store(true, Ordering::Relaxed);
    for path in ["/readyz", "/startupz"] {
        assert!(get(address, path).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn metrics_and_partitions_are_served() {
    let running = start();
    let address = running.address;
    WorkerMetrics::new("admin-test").lost.increment(1);
    let answer = get(address, "/metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("pelton_rebalances_total{group=\"admin-test\",event=\"lost\"} 1"));
    let answer = body(&get(address, "/partitions").await);
    assert_eq!(answer[0]["topic"], "user_logins");
    assert_eq!(answer[0]["state"], "running");
    assert_eq!(answer[0]["committed"], 7);
    assert!(answer[0]["lag"].is_null());
}

#[tokio::test]
async fn strangers_and_writers_are_refused() {
    let running = start();
    let address = running.address;
    let rebound = "GET /partitions HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(send(address, rebound).await.starts_with("HTTP/1.1 403"));
    let post = "POST /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(send(address, post).await.starts_with("HTTP/1.1 405"));
    let answer = get(address, "/etc/passwd").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("/readyz"), "{answer}");
}

#[tokio::test]
async fn garbage_and_huge_heads_end_only_their_connection() {
    let running = start();
    let address = running.address;
    let huge =
        format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(100));
    for bad in [huge.as_str(), many.as_str(), "\0\u{1}garbage\r\n\r\n"] {
        let answer = send(address, bad).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_port_in_use_is_an_error_with_the_way_out() {
    let running = start();
    let address = running.address;
    let error = AdminServer::bind(address, Arc::new(Fake::default()), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "PLT-0131: the admin endpoint can't listen on {address}: another process does, \
             perhaps another worker; give `admin.listen` another port (0 takes any free one), as \
             in PELTON__ADMIN__LISTEN=127.0.0.1:0, or set `admin.enabled = false`"
        )
    );
    // 192.0.2.0/24 is for documents: no machine has such an address.
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 9464));
    let error = AdminServer::bind(elsewhere, Arc::new(Fake::default()), None).unwrap_err();
    assert_eq!(error.code(), "PLT-0132");
}

#[tokio::test]
async fn stopping_ends_within_a_moment_though_a_connection_idles() {
    let Running { address, stop, task, .. } = start();
    let _idle = TcpStream::connect(address).await.unwrap();
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), task).await.expect("still serving").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
