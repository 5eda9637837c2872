//! Batches of messages from librdkafka's consumer queue, without a Rust object per message.
//!
//! The safe wrapper's `poll` makes an event, a reference count and a message object for every record: 600 ns of the polling
//! thread each. `rd_kafka_consume_batch_queue` fills an array of pointers: 200 ns (`benches/ingest`). This is the one module
//! with `unsafe` in it; it hands out borrowed records, and owns nothing but the two queues.
//!
//! The wrapper forwards librdkafka's main queue (logs, errors) into the consumer queue, where the batch call would print them
//! to stderr. So that forwarding is undone here, and the main queue is served by [`BatchQueue::events`].
//!
//! Not thread safe, on purpose: one thread polls, pauses and seeks, so a seek never overtakes a batch in flight (the loss that
//! librdkafka's 2.0 release notes describe needs two threads).
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_void},
    marker::PhantomData,
    ptr, slice,
    sync::Arc,
};

use rdkafka::{
    bindings::{self as rd, rd_kafka_headers_t, rd_kafka_message_t, rd_kafka_queue_t},
    consumer::{BaseConsumer, Consumer},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

pub(super) struct BatchQueue {
    client: Arc<BaseConsumer>,
    topic: CString,
    consumer: *mut rd_kafka_queue_t,
    main: *mut rd_kafka_queue_t,
    messages: Vec<*mut rd_kafka_message_t>,
    with_headers: bool,
}

/// What the consumer queue holds.
pub(super) enum Polled<'a> {
    Record(RawRecord<'a>),
    EndOfPartition { partition: i32, offset: i64 },
    Failed { partition: i32, code: RDKafkaErrorCode, why: String },
}

/// A record in librdkafka's memory.
pub(super) struct RawRecord<'a> {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// -1 if the record has none.
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// What the main queue holds.
pub(super) enum Event {
    Error { code: RDKafkaErrorCode, why: String },
    Log { level: i32, facility: String, text: String },
}

impl BatchQueue {
    /// The queue of a client that has a group id.
    pub(super) fn new(client: Arc<BaseConsumer>, topic: &str, capacity: usize, with_headers: bool) -> Self {
        let native = client.client().native_ptr();
        // SAFETY: `native` lives as long as `client`, which this struct keeps. Both calls return a counted reference that
        // `drop` gives back. Forwarding to NULL ends the forwarding that the wrapper has set up.
        let (consumer, main) = unsafe {
            let consumer = rd::rd_kafka_queue_get_consumer(native);
            let main = rd::rd_kafka_queue_get_main(native);
            rd::rd_kafka_queue_forward(main, ptr::null_mut());
            (consumer, main)
        };
        assert!(!consumer.is_null(), "a client with a group id has a consumer queue");
        let topic = CString::new(topic).expect("the name of a topic was checked");
        Self { client, topic, consumer, main, messages: vec![ptr::null_mut(); capacity], with_headers }
    }

    pub(super) fn capacity(&self) -> usize {
        self.messages.len()
    }

    /// Waits until the array is full or the time is over, then shows what came, in order. Returns how many that were.
    pub(super) fn poll(&mut self, timeout_ms: i32, mut sink: impl FnMut(Polled<'_>)) -> usize {
        // SAFETY: the array has room for the number of pointers that is named.
        let count = unsafe {
            rd::rd_kafka_consume_batch_queue(self.consumer, timeout_ms, self.messages.as_mut_ptr(), self.messages.len())
        };
        let count = usize::try_from(count).unwrap_or(0); // -1: the client is going away
        let mut batch = Batch(self.messages[..count].iter());
        while let Some(&message) = batch.0.as_slice().first() {
            // SAFETY: librdkafka filled the first `count` places with valid messages, ours until they are destroyed, which
            // `Batch` does afterwards, also if the sink panics. The borrows end before.
            unsafe {
                let next = batch.0.as_slice().get(1).map(|next| &**next);
                let with_headers = self.with_headers && !next.is_some_and(|next| has_no_headers(&*message, next));
                sink(polled(&*message, with_headers));
            }
            batch.destroy_first();
        }
        count
    }

    /// Serves the main queue, without waiting.
    pub(super) fn events(&mut self, mut sink: impl FnMut(Event)) {
        loop {
            // SAFETY: the queue is ours; the event is ours until it is destroyed below, and its texts are copied before.
            unsafe {
                let event = rd::rd_kafka_queue_poll(self.main, 0);
                if event.is_null() {
                    return;
                }
                match rd::rd_kafka_event_type(event) {
                    rd::RD_KAFKA_EVENT_ERROR => sink(Event::Error {
                        code: rd::rd_kafka_event_error(event).into(),
                        why: text(rd::rd_kafka_event_error_string(event)),
                    }),
                    rd::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                        if rd::rd_kafka_event_log(event, &mut facility, &mut line, &mut level) == 0 {
                            sink(Event::Log { level, facility: text(facility), text: text(line) });
                        }
                    }
                    _ => {}
                }
                rd::rd_kafka_event_destroy(event);
            }
        }
    }

    /// The end of the partition's log as the last fetch told it. Asks nobody.
    pub(super) fn cached_end(&self, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client lives, the topic ends with NUL, the two numbers are written before the call returns.
        let error = unsafe {
            let native = self.client.client().native_ptr();
            rd::rd_kafka_get_watermark_offsets(native, self.topic.as_ptr(), partition, &mut low, &mut high)
        };
        (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl Drop for BatchQueue {
    fn drop(&mut self) {
        // SAFETY: the two references of `new`, given back once; the client is still there, since fields drop after this.
        unsafe {
            rd::rd_kafka_queue_destroy(self.consumer);
            rd::rd_kafka_queue_destroy(self.main);
        }
    }
}

/// Messages that are still to be given back. One that is kept would block the end of the client for ever.
struct Batch<'a>(slice::Iter<'a, *mut rd_kafka_message_t>);

impl Batch<'_> {
    fn destroy_first(&mut self) {
        if let Some(&message) = self.0.next() {
            // SAFETY: each message is passed by the iterator, and so destroyed, once.
            unsafe { rd::rd_kafka_message_destroy(message) };
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        while !self.0.as_slice().is_empty() {
            self.destroy_first();
        }
    }
}

/// The furthest that a record is looked for behind another: so the byte between them lies in memory that is there.
const NEAR: usize = 4096;

/// Whether it is certain that a record has no headers. Asking librdkafka costs three allocations per record, more than all
/// else that is done for it here; and most records have none.
///
/// In records of version 2 the number of headers follows the value (Kafka's protocol guide, Record), and librdkafka hands out
/// pointers into the batch as it came. Only those records have a leader's epoch. Where `next` begins shortly behind
/// `message`, what is between them is the end of the one and the beginning of the other.
///
/// # Safety
/// Both were filled by librdkafka and are not destroyed.
unsafe fn has_no_headers(message: &rd_kafka_message_t, next: &rd_kafka_message_t) -> bool {
    if message.payload.is_null() || message.len == 0 || next.len == 0 {
        return false; // an empty value points elsewhere
    }
    let end = message.payload.cast::<u8>().wrapping_add(message.len);
    let between = (next.payload as usize).checked_sub(end as usize);
    // SAFETY: the message is valid.
    let is_version_2 = unsafe { rd::rd_kafka_message_leader_epoch(message) } >= 0;
    // SAFETY: the byte lies between two that librdkafka owns, less than a page apart: on the page of one of them.
    is_version_2 && between.is_some_and(|between| (1..NEAR).contains(&between)) && unsafe { end.read() } == 0
}

/// # Safety
/// `message` was filled by librdkafka and is not destroyed while the result lives.
unsafe fn polled(message: &rd_kafka_message_t, with_headers: bool) -> Polled<'_> {
    let partition = message.partition;
    match message.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
            return Polled::EndOfPartition { partition, offset: message.offset };
        }
        code => {
            // SAFETY: the text belongs to the message.
            let why = unsafe { text(rd::rd_kafka_message_errstr(message)) };
            return Polled::Failed { partition, code: code.into(), why };
        }
    }
    let mut headers = ptr::null_mut();
    // SAFETY: the message is valid; the list of headers, if there is one, belongs to it.
    let timestamp_ms = unsafe {
        if with_headers && rd::rd_kafka_message_headers(message, &mut headers) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            headers = ptr::null_mut();
        }
        rd::rd_kafka_message_timestamp(message, ptr::null_mut())
    };
    // SAFETY: pointer and length of key and payload belong to the message; NULL stands for null.
    let (key, value) = unsafe { (bytes(message.key, message.key_len), bytes(message.payload, message.len)) };
    let headers = Headers { list: headers, index: 0, message: PhantomData };
    Polled::Record(RawRecord { partition, offset: message.offset, timestamp_ms, key, value, headers })
}

/// The headers of a record, in order. A name that is not UTF-8 is shown as such; its value is kept.
pub(super) struct Headers<'a> {
    list: *mut rd_kafka_headers_t,
    index: usize,
    message: PhantomData<&'a rd_kafka_message_t>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.list.is_null() {
            return None;
        }
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list belongs to the message, which outlives `'a`; so do name (with its NUL) and value.
        unsafe {
            let error = rd::rd_kafka_header_get_all(self.list, self.index, &mut name, &mut value, &mut len);
            if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            self.index += 1;
            Some((CStr::from_ptr(name).to_str().unwrap_or("(not UTF-8)"), bytes(value.cast_mut(), len)))
        }
    }
}

/// # Safety
/// `at` is NULL, or `len` bytes from there on are readable for `'a`.
unsafe fn bytes<'a>(at: *mut c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast::<u8>(), len) })
}

/// # Safety
/// `at` is NULL or a C string.
unsafe fn text(at: *const c_char) -> String {
    if at.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().trim().to_owned()
}
