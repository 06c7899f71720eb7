//! What if records, changelogs and requests are anything at all? They are read as they are, refused
//! in few words, or answered; never a panic, never a wait for anybody else.
//!
//! `PROPTEST_CASES=1000000 cargo test -p pelton --lib foreign_bytes` is the long form (the endpoint
//! takes a hundredth of the cases).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::admin::{AdminServer, Health, PartitionStatus, Status};
use crate::damage::damaged;
use crate::error::HandlerError;
use crate::record::Run;
use crate::state::{self, StoreLayers};
use crate::topic_partition::TopicPartition;

/// No refusal is longer: what was read does not stand in it.
const FEW_WORDS_BYTES: usize = 1_000;

/// A record as Kafka may deliver it.
#[derive(Clone, Debug)]
struct Foreign {
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn foreign() -> impl Strategy<Value = Foreign> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    let name = prop_oneof![Just("pelton-store-version".to_owned()), ".{0,20}"];
    let version = prop_oneof![bytes(), Just(Some(b"1".to_vec()))];
    let headers = prop::collection::vec((name, version), 0..4);
    let value = prop_oneof![bytes(), damaged(json()).prop_map(Some)];
    (any::<i64>(), any::<Option<i64>>(), bytes(), value, headers).prop_map(
        |(offset, timestamp, key, value, headers)| Foreign {
            offset,
            timestamp,
            key,
            value,
            headers,
        },
    )
}

/// JSON as a producer that means well writes it.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        ".{0,20}".prop_map(serde_json::Value::from),
    ];
    let nested = leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::hash_map("(user|status|.{0,5})", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    });
    let login = ("[a-z]{1,9}", "(success|failure)")
        .prop_map(|(user, status)| serde_json::json!({ "user": user, "status": status }));
    prop_oneof![nested, login].prop_map(|json| json.to_string().into_bytes())
}

fn run_of(records: &[Foreign]) -> Run {
    let mut run = Run::new(TopicPartition::new("foreign", 0));
    for Foreign { offset, timestamp, key, value, headers } in records {
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        run.push(*offset, *timestamp, key.as_deref(), value.as_deref(), headers);
    }
    run
}

/// A type that a handler may read a record into.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Login<'a> {
    #[serde(borrow)]
    user: std::borrow::Cow<'a, str>,
    status: State,
    more: Option<Vec<Self>>,
}

#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Success,
    Failure,
}

fn in_few_words<T>(result: Result<T, HandlerError>) -> Result<Option<T>, TestCaseError> {
    match result {
        Ok(read) => Ok(Some(read)),
        Err(error) => {
            prop_assert!(!error.is_retryable(), "no other attempt would read it");
            prop_assert!(error.to_string().len() < FEW_WORDS_BYTES, "{}", error);
            Ok(None)
        }
    }
}

fn few(cases: u32) -> ProptestConfig {
    let cases = (ProptestConfig::default().cases / cases).max(4);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few(1))]

    #[test]
    fn a_record_is_what_was_delivered_and_reads_or_is_refused(
        records in prop::collection::vec(foreign(), 0..5),
    ) {
        let run = run_of(&records);
        prop_assert_eq!(run.len(), records.len());
        for (at, given) in records.iter().enumerate() {
            let record = run.record(at).expect("it was pushed");
            prop_assert_eq!((record.key(), record.value()), (given.key.as_deref(), given.value.as_deref()));
            prop_assert_eq!((record.offset(), record.timestamp_ms()), (given.offset, given.timestamp));
            for (name, value) in &given.headers {
                let first = given.headers.iter().find(|(other, _)| other == name);
                prop_assert!(first.is_some());
                let found = record.header(name);
                prop_assert!(found == value.as_deref() || given.headers.iter().any(|(n, v)| n == name && v.as_deref() == found));
            }
            in_few_words(record.key_str())?;
            in_few_words(record.json::<Login<'_>>())?;
            in_few_words(record.json::<&str>())?;
            in_few_words(record.json::<serde_json::Value>())?;
            in_few_words(record.json::<std::collections::BTreeMap<String, u8>>())?;
        }
        let _shown = format!("{run:?}");
    }

    #[test]
    fn inv_10_a_changelog_is_taken_whole_or_refused(
        records in prop::collection::vec(foreign(), 0..8),
    ) {
        let run = run_of(&records);
        let mut layers = StoreLayers::default();
        let mut last = std::collections::BTreeMap::new();
        for (at, given) in records.iter().enumerate() {
            let record = run.record(at).expect("it was pushed");
            let version = record.header("pelton-store-version");
            let known = version.is_none_or(|version| version == b"1");
            match state::take(&mut layers, &record) {
                Ok(()) => prop_assert!(known),
                Err(error) => {
                    prop_assert!(!known && !error.retryable && error.reason.len() < FEW_WORDS_BYTES);
                    continue;
                }
            }
            if let Some(key) = &given.key {
                last.insert(key.clone(), given.value.clone());
            }
        }
        for (key, value) in last {
            prop_assert_eq!(layers.read(&key), value.as_deref());
        }
    }

    #[test]
    fn a_store_s_value_fits_its_type_or_is_refused(bytes in damaged(json())) {
        in_few_words(state::decode::<u64>("totals", &bytes))?;
        in_few_words(state::decode::<Vec<Option<String>>>("totals", &bytes))?;
        if let Some(value) = in_few_words(state::decode::<serde_json::Value>("totals", &bytes))? {
            prop_assert!(in_few_words(state::encode(&value))?.is_some());
        }
    }
}

struct Idle;

impl Status for Idle {
    fn health(&self) -> Health {
        Health::starting("worker-1", "idle")
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        Vec::new()
    }
}

/// Requests as they should be.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let path = "/(livez|readyz|startupz|metrics|partitions|)[a-z?%/]{0,9}";
    let header = "(Host: localhost|Connection: (close|keep-alive)|Content-Length: [0-9]{1,19}|Transfer-Encoding: chunked|Expect: 100-continue|Upgrade: websocket|X: .{0,30})\r\n";
    ("(GET|HEAD|POST|PUT|OPTIONS)", path, prop::collection::vec(header, 0..5), ".{0,40}").prop_map(
        |(method, path, headers, body)| {
            format!("{method} {path} HTTP/1.1\r\n{}\r\n{body}", headers.concat()).into_bytes()
        },
    )
}

/// Says some bytes and leaves, in the middle of everything or after the answer.
async fn disturb(address: SocketAddr, bytes: &[u8], stays: bool) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    // The endpoint may hang up before it has heard it all.
    let _refused = stream.write_all(bytes).await.is_err();
    if !stays {
        let mut answer = [0; 512];
        stream.shutdown().await.ok();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
        drop(read.map_err(|_| std::io::Error::other("it neither answers nor hangs up"))?);
    }
    Ok(stream)
}

async fn is_served(address: SocketAddr) -> std::io::Result<bool> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    let late = |_| std::io::Error::other("no answer");
    tokio::time::timeout(Duration::from_secs(8), ask).await.map_err(late)?
}

proptest! {
    #![proptest_config(few(100))]

    #[test]
    fn whoever_says_what_others_are_answered(
        noise in prop::collection::vec(
            (prop_oneof![damaged(request()), prop::collection::vec(any::<u8>(), 0..20_000)], any::<bool>()),
            1..20,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen: Result<bool, std::io::Error> = runtime.block_on(async {
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            let server = AdminServer::bind(any_port, Arc::new(Idle), None).unwrap();
            let address = server.local_addr();
            let serving = tokio::spawn(server.serve(std::future::pending()));
            let mut open = Vec::new();
            for (bytes, stays) in &noise {
                open.push(disturb(address, bytes, *stays).await?);
            }
            let served = is_served(address).await;
            serving.abort();
            served
        });
        prop_assert!(matches!(seen, Ok(true)), "{:?}", seen);
    }
}
