//! How do logins reach the topic, all of them, in order, and how is that known?

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};

use crate::clock::Clock;
use crate::error::{SendError, SourceError};
use crate::login::Login;
use crate::pace::Pace;

/// The header with a login's number, in decimal digits.
pub const SEQ_HEADER: &str = "seq";

/// Where to send, and how fast.
///
/// ```
/// use load_generator::SendOptions;
///
/// let mut options = SendOptions::new("localhost:9092", "user_logins");
/// options.rate_per_second = Some(100.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SendOptions {
    /// Some brokers, `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// The topic; it must exist.
    pub topic: String,
    /// Records a second, spread evenly. Default: as fast as possible.
    pub rate_per_second: Option<f64>,
    /// The first login's number. Default 0; to go on where another run ended, give the next one.
    pub first_seq: u64,
    /// After so many logins, send a record that is none (without a number). Default: never.
    pub malformed_every: Option<u64>,
    /// Settings of librdkafka, over ours: security, time-outs.
    pub kafka: Vec<(String, String)>,
}

impl SendOptions {
    /// As fast as possible, numbered from 0.
    #[must_use]
    pub fn new(bootstrap_servers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            topic: topic.into(),
            rate_per_second: None,
            first_seq: 0,
            malformed_every: None,
            kafka: Vec::new(),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            // Enough to batch, too little to be seen.
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            // How long a record may wait for a broker that is away, at most.
            .set("message.timeout.ms", "30000")
            .set("queue.buffering.max.kbytes", "65536");
        for (name, value) in &self.kafka {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            // No record twice and none out of its order, whatever is sent again.
            .set("enable.idempotence", "true")
            // The partition Java's producer chooses for the key.
            .set("partitioner", "murmur2_random")
            .set("log_level", "3");
        config
    }
}

/// How far sending is.
///
/// ```
/// let before = load_generator::Progress::default();
/// assert_eq!((before.sent, before.delivered), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records given to the client.
    pub sent: u64,
    /// Records Kafka has confirmed.
    pub delivered: u64,
}

/// What was sent; Kafka has confirmed all of it.
///
/// ```
/// assert_eq!(load_generator::Sent::default().logins, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Logins.
    pub logins: u64,
    /// Records that are none, sent on purpose.
    pub malformed: u64,
    /// Whether the caller ended it before the source did.
    pub interrupted: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Sends `logins` in their order, keyed by user, each with its number in the header
/// [`SEQ_HEADER`], and waits until Kafka has confirmed every record.
///
/// `progress` is called after each record and at least every 50 ms while waiting; when it answers
/// `Break`, nothing more is sent, and what was sent is waited for. Blocks the calling thread.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use load_generator::{Generated, SendOptions, send_all};
///
/// let options = SendOptions::new("localhost:9092", "user_logins");
/// let logins = Generated::new(1, 100).take(1_000).map(Ok);
/// let sent = send_all(logins, &options, |_| ControlFlow::Continue(()))?;
/// assert_eq!(sent.logins, 1_000);
/// # Ok::<(), load_generator::SendError>(())
/// ```
///
/// # Errors
///
/// If Kafka can't be reached, the topic is missing, the source fails, or a record is not
/// confirmed. The first record that is not stops the sending: those after it are not sent.
pub fn send_all(
    logins: impl IntoIterator<Item = Result<Login, SourceError>>,
    options: &SendOptions,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Sent, SendError> {
    let sender = Sender::connect(options)?;
    let clock = Clock::start();
    let pace = Pace::new(options.rate_per_second);
    let mut sent = Sent::default();
    let mut broken = None;
    for login in logins {
        let login = match login {
            Ok(login) => login,
            Err(error) => {
                broken = Some(error);
                break;
            }
        };
        let due = || pace.wait(sent.logins, clock.elapsed());
        let go_on = sender.wait_while(|| !due().is_zero(), due, &mut progress);
        if go_on.is_break() || progress(sender.progress()).is_break() {
            sent.interrupted = true;
            break;
        }
        if sender.reports.has_failed() {
            break;
        }
        let seq = options.first_seq.saturating_add(sent.logins);
        sender.send(&login.user, &login.to_json(), Some(seq))?;
        sent.logins += 1;
        if options.malformed_every.is_some_and(|every| sent.logins.is_multiple_of(every.max(1))) {
            sender.send(&login.user, "{\"user\": ", None)?;
            sent.malformed += 1;
        }
    }
    sender.wait_for_reports(&mut progress)?;
    sent.elapsed = clock.elapsed();
    match broken {
        Some(source) => Err(SendError::Source { source, delivered: sender.progress().delivered }),
        None => Ok(sent),
    }
}

const LOOK: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(15);

struct Sender<'a> {
    client: ThreadedProducer<Listener>,
    reports: Arc<Reports>,
    options: &'a SendOptions,
}

impl<'a> Sender<'a> {
    fn connect(options: &'a SendOptions) -> Result<Self, SendError> {
        let reports = Arc::new(Reports::default());
        let client: ThreadedProducer<_> = options
            .config()
            .create_with_context(Listener(Arc::clone(&reports)))
            .map_err(SendError::Client)?;
        let bootstrap_servers = options.bootstrap_servers.clone();
        // Asks for all topics: a producer that asks for one by name may make it by asking.
        let metadata = client.client().fetch_metadata(None, ANSWER).map_err(|source| {
            SendError::Unreachable { bootstrap_servers: bootstrap_servers.clone(), source }
        })?;
        let exists = metadata.topics().iter().any(|topic| {
            topic.name() == options.topic
                && topic.error().is_none()
                && !topic.partitions().is_empty()
        });
        if !exists {
            return Err(SendError::NoTopic { topic: options.topic.clone(), bootstrap_servers });
        }
        Ok(Self { client, reports, options })
    }

    fn progress(&self) -> Progress {
        Progress {
            sent: self.reports.sent.load(Ordering::Relaxed),
            delivered: self.reports.delivered.load(Ordering::Acquire),
        }
    }

    fn send(&self, user: &str, value: &str, seq: Option<u64>) -> Result<(), SendError> {
        let digits = seq.map(|seq| seq.to_string());
        let mut record = BaseRecord::to(&self.options.topic).key(user).payload(value);
        if let Some(digits) = &digits {
            let header = Header { key: SEQ_HEADER, value: Some(digits) };
            record = record.headers(OwnedHeaders::new_with_capacity(1).insert(header));
        }
        self.reports.sent.fetch_add(1, Ordering::Relaxed);
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    record = refused;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((error, _)) => {
                    self.reports.fail(&error);
                    return self.wait_for_reports(&mut |_| ControlFlow::Continue(()));
                }
            }
        }
    }

    /// Waits as long as `undone`, a step at a time.
    fn wait_while(
        &self,
        undone: impl Fn() -> bool,
        step: impl Fn() -> Duration,
        progress: &mut impl FnMut(Progress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while undone() {
            std::thread::sleep(step().min(LOOK));
            if undone() {
                progress(self.progress())?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Waits for the report of every record; each comes within `message.timeout.ms`.
    fn wait_for_reports(
        &self,
        progress: &mut impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), SendError> {
        let flushing = || {
            // Asks the client not to linger; what is open is known from the reports.
            let _timed_out = self.client.flush(Duration::ZERO).is_err();
            self.reports.open() > 0
        };
        let mut watch = |now| {
            let _asked_to_stop_already = progress(now);
            ControlFlow::Continue(())
        };
        let _done = self.wait_while(flushing, || Duration::from_millis(5), &mut watch);
        let _seen = watch(self.progress());
        self.reports.result()
    }
}

/// What Kafka said about the records.
#[derive(Default)]
struct Reports {
    sent: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

impl Reports {
    fn open(&self) -> u64 {
        let known = self.delivered.load(Ordering::Acquire) + self.failed.load(Ordering::Acquire);
        self.sent.load(Ordering::Relaxed).saturating_sub(known)
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire) > 0
    }

    fn fail(&self, error: &KafkaError) {
        let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| error.to_string());
        self.failed.fetch_add(1, Ordering::Release);
    }

    fn result(&self) -> Result<(), SendError> {
        let sent = self.sent.load(Ordering::Relaxed);
        let undelivered = sent.saturating_sub(self.delivered.load(Ordering::Acquire));
        if undelivered == 0 {
            return Ok(());
        }
        let first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reason = first.unwrap_or_else(|| "no report came".to_owned());
        Err(SendError::Undelivered { undelivered, sent, reason })
    }
}

struct Listener(Arc<Reports>);

impl ClientContext for Listener {}

impl ProducerContext for Listener {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.0.delivered.fetch_add(1, Ordering::Release);
            }
            Err((error, _)) => self.0.fail(error),
        }
    }
}

/// Makes the topic of `options`; one that exists stays as it is.
///
/// ```no_run
/// use load_generator::{SendOptions, create_topic};
///
/// create_topic(&SendOptions::new("localhost:9092", "user_logins"), 12)?;
/// # Ok::<(), load_generator::SendError>(())
/// ```
///
/// # Errors
///
/// If Kafka can't be reached or refuses.
pub fn create_topic(options: &SendOptions, partitions: i32) -> Result<(), SendError> {
    let failed = |reason: String| SendError::Create { topic: options.topic.clone(), reason };
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.bootstrap_servers).set("log_level", "3");
    for (name, value) in &options.kafka {
        config.set(name, value);
    }
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(SendError::Client)?;
    // -1: as many copies as the cluster gives by default.
    let topic = NewTopic::new(&options.topic, partitions, TopicReplication::Fixed(-1));
    let wait = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
    let answers = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| failed(error.to_string()))?
        .block_on(admin.create_topics([&topic], &wait))
        .map_err(|source| {
            let bootstrap_servers = options.bootstrap_servers.clone();
            SendError::Unreachable { bootstrap_servers, source }
        })?;
    match answers.first() {
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(failed(code.to_string())),
    }
}
