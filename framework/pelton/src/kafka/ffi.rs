//! What rust-rdkafka does not offer, made safe: per-partition fetch queues, commits with answers,
//! topic ids, new credentials.
//!
//! The only `unsafe` of this crate. Each type owns its native handles and an `Arc` of the client
//! they belong to, so they are always destroyed before it: `rd_kafka_destroy` hangs for ever
//! while a queue made with `rd_kafka_queue_new` lives (FACTS).
#![expect(unsafe_code, reason = "rust-rdkafka has no batch consume, no commit queue")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::oauth::OauthToken;
use crate::ports::{PortError, TopicRights, Waker};

/// A queue of a client, with a wake-up on its way from empty to not empty.
struct Queue {
    native: *mut native::rd_kafka_queue_t,
    /// What the native callback points to; freed after the callback is taken off.
    waker: Box<Waker>,
}

// SAFETY: rd_kafka_queue_t is thread-safe (rdkafka.h: queues may be used from any thread); the
// waker is Send + Sync.
unsafe impl Send for Queue {}

impl Queue {
    fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>, waker: Waker) -> Self {
        let waker = Box::new(waker);
        // SAFETY: the client lives: it is borrowed. The opaque pointer stays valid until Drop,
        // which takes the callback off first.
        let native = unsafe {
            let queue = native::rd_kafka_queue_new(consumer.client().native_ptr());
            let opaque = (&raw const *waker).cast_mut().cast::<c_void>();
            native::rd_kafka_queue_cb_event_enable(queue, Some(wake), opaque);
            queue
        };
        Self { native, waker }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and is used by nobody after this.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.native, None, ptr::null_mut());
            native::rd_kafka_queue_destroy(self.native);
        }
        let _freed_after_the_callback = &self.waker;
    }
}

unsafe extern "C" fn wake(_client: *mut native::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the boxed waker of a Queue, which outlives the callback.
    let waker = unsafe { &*opaque.cast::<Waker>() };
    waker();
}

/// Commits whose answers come, per partition, on a queue of their own (`commit(Async)` of
/// rust-rdkafka never reports).
pub(crate) struct CommitQueue<C: ConsumerContext + 'static> {
    queue: Queue,
    consumer: Arc<BaseConsumer<C>>,
}

/// Kafka's answer to one commit.
pub(crate) struct CommitAnswer {
    pub(crate) id: u64,
    pub(crate) error: RDKafkaErrorCode,
    /// Topic, partition, its own error.
    pub(crate) partitions: Vec<(String, i32, RDKafkaErrorCode)>,
}

impl<C: ConsumerContext + 'static> CommitQueue<C> {
    pub(crate) fn new(consumer: Arc<BaseConsumer<C>>, waker: Waker) -> Self {
        Self { queue: Queue::new(&consumer, waker), consumer }
    }

    /// Queues a commit; [`answer`](Self::answer) brings what became of it.
    pub(crate) fn commit(&self, offsets: &TopicPartitionList, id: u64) -> Result<(), PortError> {
        // The number travels as the opaque pointer; it is never followed.
        let opaque = ptr::without_provenance_mut::<c_void>(usize::try_from(id).unwrap_or(0));
        // SAFETY: client, list and queue live during the call; librdkafka copies the list.
        let code = unsafe {
            native::rd_kafka_commit_queue(
                self.consumer.client().native_ptr(),
                offsets.ptr(),
                self.queue.native,
                None,
                opaque,
            )
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => Ok(()),
            code => Err(PortError::passing(format!("the commit was not queued: {code}"))),
        }
    }

    /// The next answer, if there is one.
    pub(crate) fn answer(&self) -> Option<CommitAnswer> {
        // SAFETY: the event is ours until it is destroyed, and nothing of it is kept; the list
        // belongs to the event, its topics are NUL-terminated strings.
        unsafe {
            let event = native::rd_kafka_queue_poll(self.queue.native, 0);
            if event.is_null() {
                return None;
            }
            let mut partitions = Vec::new();
            let list = native::rd_kafka_event_topic_partition_list(event);
            if !list.is_null() {
                let count = usize::try_from((*list).cnt).unwrap_or(0);
                for at in 0..count {
                    let element = &*(*list).elems.add(at);
                    let topic = CStr::from_ptr(element.topic).to_string_lossy().into_owned();
                    partitions.push((topic, element.partition, element.err.into()));
                }
            }
            let id = u64::try_from(native::rd_kafka_event_opaque(event).addr()).unwrap_or(0);
            let error = native::rd_kafka_event_error(event).into();
            native::rd_kafka_event_destroy(event);
            Some(CommitAnswer { id, error, partitions })
        }
    }
}

/// Makes librdkafka's partition object, so that a pause set before the assignment sticks to it.
pub(crate) fn create_partition_object<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) {
    let Ok(topic) = CString::new(topic) else {
        return;
    };
    // SAFETY: the client lives; the queue reference is released at once.
    unsafe {
        let queue = native::rd_kafka_queue_get_partition(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
        );
        if !queue.is_null() {
            native::rd_kafka_queue_destroy(queue);
        }
    }
}

/// The member's generation in its group; below 1 it is in none yet.
pub(crate) fn generation<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> i32 {
    // SAFETY: the client lives; the metadata is ours and destroyed here.
    unsafe {
        let metadata = native::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return -1;
        }
        let generation = native::rd_kafka_consumer_group_metadata_generation_id(metadata);
        native::rd_kafka_consumer_group_metadata_destroy(metadata);
        generation
    }
}

/// Lets a client have a fatal error, as a broker would.
#[cfg(feature = "planted-bugs")]
pub(crate) fn raise_fatal<C: ClientContext>(client: &Client<C>) {
    let code = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN;
    // SAFETY: the client lives, the reason is a NUL-terminated string that librdkafka copies.
    unsafe {
        native::rd_kafka_test_fatal_error(client.native_ptr(), code, c"raised by a test".as_ptr());
    }
}

/// Reads partitions at explicit offsets into one queue (`rd_kafka_consume_start_queue`).
pub(crate) struct FetchQueue<C: ConsumerContext + 'static> {
    queue: Queue,
    topics: HashMap<Arc<str>, Topic>,
    /// Names by native topic, for what comes out of the queue.
    names: HashMap<usize, Arc<str>>,
    buffer: Vec<*mut native::rd_kafka_message_t>,
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: the raw pointers in `buffer` are null between calls; the others are thread-safe
// handles of librdkafka.
unsafe impl<C: ConsumerContext + 'static> Send for FetchQueue<C> {}

/// A topic handle.
struct Topic(*mut native::rd_kafka_topic_t);

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the handle is ours; the client outlives it (FetchQueue holds it).
        unsafe { native::rd_kafka_topic_destroy(self.0) }
    }
}

/// A record or an error as it comes out of the queue; borrowed for one call.
pub(crate) struct Fetched<'a> {
    pub(crate) topic: &'a Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) error: RDKafkaErrorCode,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<C: ConsumerContext + 'static> FetchQueue<C> {
    pub(crate) fn new(consumer: Arc<BaseConsumer<C>>, waker: Waker) -> Self {
        Self {
            queue: Queue::new(&consumer, waker),
            topics: HashMap::new(),
            names: HashMap::new(),
            buffer: Vec::new(),
            consumer,
        }
    }

    pub(crate) fn start(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
    ) -> Result<(), PortError> {
        let handle = self.topic(topic)?;
        // SAFETY: topic and queue live.
        let failed = unsafe {
            native::rd_kafka_consume_start_queue(handle, partition, offset, self.queue.native)
        };
        last_error(failed, "starting the fetch")
    }

    pub(crate) fn stop(&mut self, topic: &Arc<str>, partition: i32) -> Result<(), PortError> {
        let handle = self.topic(topic)?;
        // SAFETY: the topic lives.
        let failed = unsafe { native::rd_kafka_consume_stop(handle, partition) };
        last_error(failed, "stopping the fetch")
    }

    fn topic(&mut self, name: &Arc<str>) -> Result<*mut native::rd_kafka_topic_t, PortError> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(topic.0);
        }
        let text = CString::new(&**name).map_err(PortError::lasting)?;
        // SAFETY: the client lives; a null configuration means the default one.
        let handle = unsafe {
            let client = self.consumer.client().native_ptr();
            native::rd_kafka_topic_new(client, text.as_ptr(), ptr::null_mut())
        };
        if handle.is_null() {
            return Err(PortError::lasting(format!("no handle for the topic {name}")));
        }
        self.names.insert(handle.addr(), Arc::clone(name));
        self.topics.insert(Arc::clone(name), Topic(handle));
        Ok(handle)
    }

    /// Gives each of at most `max` waiting records to `take`; returns how many they were.
    pub(crate) fn batch(&mut self, max: usize, mut take: impl FnMut(Fetched<'_>)) -> usize {
        self.buffer.resize(max, ptr::null_mut());
        // SAFETY: the buffer has room for `max` messages, the queue lives.
        let count = unsafe {
            native::rd_kafka_consume_batch_queue(
                self.queue.native,
                0,
                self.buffer.as_mut_ptr(),
                max,
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        for at in 0..count {
            let message = std::mem::replace(&mut self.buffer[at], ptr::null_mut());
            // SAFETY: the message is ours until it is destroyed below; what `take` sees is
            // borrowed for the call.
            unsafe {
                let name = self.names.entry((*message).rkt.addr()).or_insert_with(|| {
                    let name = CStr::from_ptr(native::rd_kafka_topic_name((*message).rkt));
                    Arc::from(name.to_string_lossy().as_ref())
                });
                take(read(message, name));
                native::rd_kafka_message_destroy(message);
            }
        }
        count
    }

    /// The end of the log as the last fetch response told it. No I/O.
    pub(crate) fn cached_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client lives; both out-pointers are valid.
        let code = unsafe {
            native::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
            )
        };
        (RDKafkaErrorCode::from(code) == RDKafkaErrorCode::NoError && high >= 0).then_some(high)
    }
}

/// # Safety
///
/// `message` must be valid for `'a`.
unsafe fn read<'a>(message: *mut native::rd_kafka_message_t, topic: &'a Arc<str>) -> Fetched<'a> {
    // SAFETY: the caller's promise; pointers and lengths come in pairs from librdkafka.
    unsafe {
        let error: RDKafkaErrorCode = (*message).err.into();
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp = native::rd_kafka_message_timestamp(message, &raw mut kind);
        Fetched {
            topic,
            partition: (*message).partition,
            offset: (*message).offset,
            key: bytes((*message).key, (*message).key_len),
            value: bytes((*message).payload, (*message).len),
            timestamp: (timestamp >= 0).then_some(timestamp),
            headers: if error == RDKafkaErrorCode::NoError { headers(message) } else { Vec::new() },
            error,
        }
    }
}

/// # Safety
///
/// `message` must be valid for `'a`.
unsafe fn headers<'a>(
    message: *mut native::rd_kafka_message_t,
) -> Vec<(&'a str, Option<&'a [u8]>)> {
    let mut all = Vec::new();
    let mut list = ptr::null_mut();
    // SAFETY: the headers belong to the message; names are NUL-terminated.
    unsafe {
        let code = native::rd_kafka_message_headers(message, &raw mut list);
        if RDKafkaErrorCode::from(code) != RDKafkaErrorCode::NoError {
            return all;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let code = native::rd_kafka_header_get_all(
                list,
                all.len(),
                &raw mut name,
                &raw mut value,
                &raw mut size,
            );
            if RDKafkaErrorCode::from(code) != RDKafkaErrorCode::NoError {
                return all;
            }
            let name = CStr::from_ptr(name).to_str().unwrap_or("");
            all.push((name, bytes(value, size)));
        }
    }
}

/// # Safety
///
/// A pointer that is not null must be valid for `'a` and `len` bytes.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), len) })
}

/// Gives a client its token for OAUTHBEARER. Returns at once.
pub(crate) fn set_token<C: ClientContext>(
    client: &Client<C>,
    token: &OauthToken,
) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "it holds a NUL".to_owned());
    let (value, principal) = (text(&token.token)?, text(&token.principal)?);
    let mut reason = [0; 512];
    // SAFETY: the client lives; librdkafka copies the texts, and writes a NUL-terminated one
    // within the length it is given.
    unsafe {
        let code = native::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.expires_at_ms(),
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        );
        if RDKafkaErrorCode::from(code) == RDKafkaErrorCode::NoError {
            return Ok(());
        }
        Err(CStr::from_ptr(reason.as_ptr()).to_string_lossy().into_owned())
    }
}

fn last_error(failed: i32, what: &str) -> Result<(), PortError> {
    if failed == 0 {
        return Ok(());
    }
    // SAFETY: no arguments; reads errno, set by the call just made on this thread.
    let code: RDKafkaErrorCode = unsafe { native::rd_kafka_last_error() }.into();
    Err(PortError::passing(format!("{what}: {code}")))
}

/// User and password for the connections that the client makes from now on (SASL PLAIN and SCRAM).
pub(crate) fn set_credentials<C: ClientContext>(
    client: &Client<C>,
    user: &str,
    password: &str,
) -> Result<(), PortError> {
    // An error of CString would show the text.
    let text = |text: &str| {
        CString::new(text)
            .map_err(|_| PortError::lasting("the credentials hold a NUL, which no text can"))
    };
    let (user, password) = (text(user)?, text(password)?);
    // SAFETY: the client and both texts live during the call; librdkafka copies the texts. The
    // error, if there is one, is ours and destroyed here.
    unsafe {
        let error = native::rd_kafka_sasl_set_credentials(
            client.native_ptr(),
            user.as_ptr(),
            password.as_ptr(),
        );
        if error.is_null() {
            return Ok(());
        }
        let reason = CStr::from_ptr(native::rd_kafka_error_string(error));
        let refused = PortError::lasting(format!("new credentials: {}", reason.to_string_lossy()));
        native::rd_kafka_error_destroy(error);
        Err(refused)
    }
}

/// What a broker says of a topic: `None` if there is none, otherwise its id, unless the broker is
/// too old to have one. Blocks for as long as `timeout`.
pub(crate) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<Option<String>>, PortError> {
    match describe_topic(client, topic, timeout, false)? {
        Described::Missing => Ok(None),
        Described::There { id, .. } => Ok(Some(id)),
        Described::Denied(code) => {
            Err(PortError::passing(format!("asking for the id of {topic}: {code}")))
        }
    }
}

/// What we may do with a topic: `None` if there is none, or the broker does not say. Blocks for as
/// long as `timeout`.
pub(crate) fn topic_rights<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<TopicRights>, PortError> {
    Ok(match describe_topic(client, topic, timeout, true)? {
        Described::Missing => None,
        Described::There { rights, .. } => rights,
        Described::Denied(_) => Some(TopicRights::default()),
    })
}

/// A broker's answer about a topic.
enum Described {
    Missing,
    There {
        id: Option<String>,
        rights: Option<TopicRights>,
    },
    /// We may not see it.
    Denied(RDKafkaErrorCode),
}

fn describe_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
    with_rights: bool,
) -> Result<Described, PortError> {
    let name = CString::new(topic).map_err(PortError::lasting)?;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut names = [name.as_ptr()];
    // SAFETY: the client lives; names, options and queue live until they are destroyed below,
    // after the answer; what is read of the answer is copied before its event is destroyed.
    unsafe {
        let native = client.native_ptr();
        let queue = native::rd_kafka_queue_new(native);
        let kind = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = native::rd_kafka_AdminOptions_new(native, kind);
        let mut unread = [0; 256];
        native::rd_kafka_AdminOptions_set_request_timeout(
            options,
            millis,
            unread.as_mut_ptr(),
            unread.len(),
        );
        let refused = native::rd_kafka_AdminOptions_set_include_authorized_operations(
            options,
            i32::from(with_rights),
        );
        if !refused.is_null() {
            native::rd_kafka_error_destroy(refused);
        }
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        native::rd_kafka_DescribeTopics(native, topics, options, queue);
        // The client answers at the latest when its own time is over.
        let event = native::rd_kafka_queue_poll(queue, millis.saturating_add(1_000));
        let answer = if event.is_null() {
            Err(PortError::passing(format!("asking about {topic}: no answer")))
        } else {
            read_description(event, topic)
        };
        native::rd_kafka_event_destroy(event);
        native::rd_kafka_TopicCollection_destroy(topics);
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
///
/// `event` must be a valid answer to DescribeTopics.
unsafe fn read_description(
    event: *mut native::rd_kafka_event_t,
    topic: &str,
) -> Result<Described, PortError> {
    let failed =
        |code: RDKafkaErrorCode| PortError::passing(format!("asking about {topic}: {code}"));
    // SAFETY: the caller's promise; everything read belongs to the event.
    unsafe {
        let code: RDKafkaErrorCode = native::rd_kafka_event_error(event).into();
        if code != RDKafkaErrorCode::NoError {
            return Err(failed(code));
        }
        let mut count = 0;
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        let found = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 {
            return Ok(Described::Missing);
        }
        let description = *found;
        let error = native::rd_kafka_TopicDescription_error(description);
        match RDKafkaErrorCode::from(native::rd_kafka_error_code(error)) {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                return Ok(Described::Missing);
            }
            code @ RDKafkaErrorCode::TopicAuthorizationFailed => {
                return Ok(Described::Denied(code));
            }
            code => return Err(failed(code)),
        }
        let id = native::rd_kafka_TopicDescription_topic_id(description);
        let old = native::rd_kafka_Uuid_most_significant_bits(id) == 0
            && native::rd_kafka_Uuid_least_significant_bits(id) == 0;
        let text = CStr::from_ptr(native::rd_kafka_Uuid_base64str(id));
        let id = (!old).then(|| text.to_string_lossy().into_owned());
        Ok(Described::There { id, rights: read_rights(description) })
    }
}

/// # Safety
///
/// `description` must be valid.
unsafe fn read_rights(
    description: *const native::rd_kafka_TopicDescription_t,
) -> Option<TopicRights> {
    use native::rd_kafka_AclOperation_t as Operation;
    let mut count = 0;
    // SAFETY: the caller's promise; the array belongs to the description and has `count` elements.
    let may = unsafe {
        let all =
            native::rd_kafka_TopicDescription_authorized_operations(description, &raw mut count);
        if all.is_null() {
            return None; // not asked for, or the broker is too old
        }
        std::slice::from_raw_parts(all, count)
    };
    Some(TopicRights {
        read: may.contains(&Operation::RD_KAFKA_ACL_OPERATION_READ),
        write: may.contains(&Operation::RD_KAFKA_ACL_OPERATION_WRITE),
        describe_configs: may.contains(&Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS),
    })
}

/// A property of librdkafka, as its own table has it.
#[cfg(test)]
pub(crate) struct Property {
    pub(crate) name: String,
    /// What its value may be.
    pub(crate) range: String,
    pub(crate) alias_of: Option<String>,
}

/// Every property that this librdkafka has, but its hidden ones.
#[cfg(test)]
pub(crate) fn properties() -> Vec<Property> {
    let mut text = ptr::null_mut();
    let mut length = 0;
    // SAFETY: the stream is ours, is closed before its text is read, and the text is freed once,
    // after it was copied.
    let table = unsafe {
        let stream = libc::open_memstream(&raw mut text, &raw mut length);
        assert!(!stream.is_null());
        native::rd_kafka_conf_properties_show(stream.cast());
        assert_eq!(libc::fclose(stream), 0);
        let table = CStr::from_ptr(text).to_string_lossy().into_owned();
        libc::free(text.cast());
        table
    };
    let rows = table.lines().filter(|line| line.contains(" | ") && !line.starts_with("Property"));
    let property = |row: &str| {
        let cell = |at| row.split(" | ").nth(at).unwrap_or_default().trim().to_owned();
        let alias_of = row.split_once("| Alias for `").and_then(|(_, rest)| rest.split_once('`'));
        let alias_of = alias_of.map(|(name, _)| name.to_owned());
        Property { name: cell(0), range: cell(2), alias_of }
    };
    rows.map(property).collect()
}
