//! Who reads in a scenario? A fetcher, and what it brought.

use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{Fetch, FetchEvent};

use super::place::Played;
use super::stage::{LOOK, wait_for};

/// Where nothing should come, nothing comes for so long.
const QUIET: Duration = Duration::from_millis(700);

/// What may not come at all comes within so long, or not.
const AT_MOST: Duration = Duration::from_secs(12);

pub(super) struct Reader {
    fetch: Option<Box<dyn Fetch>>,
    last_timestamp: Option<i64>,
}

impl Reader {
    pub(super) fn new(fetch: Box<dyn Fetch>) -> Self {
        Self { fetch: Some(fetch), last_timestamp: None }
    }

    fn fetch(&mut self) -> &mut dyn Fetch {
        self.fetch.as_deref_mut().expect("there until it is dropped")
    }

    pub(super) fn start(&mut self, partition: &TopicPartition, offset: i64) -> Played {
        Ok(self.fetch().start(partition, offset)?)
    }

    pub(super) fn stop(&mut self, partition: &TopicPartition) -> Played {
        Ok(self.fetch().stop(partition)?)
    }

    pub(super) fn end_offset(&mut self, partition: &TopicPartition) -> Option<i64> {
        self.fetch().end_offset(partition)
    }

    /// Of the last record that came.
    pub(super) const fn last_timestamp(&self) -> Option<i64> {
        self.last_timestamp
    }

    /// What has come, a line each.
    fn poll(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        self.fetch().poll(1000, &mut events);
        let mut times = events.iter().filter_map(|event| match event {
            FetchEvent::Run(run) => run.record(run.len().checked_sub(1)?)?.timestamp_ms(),
            _ => None,
        });
        self.last_timestamp = times.next_back().or(self.last_timestamp);
        events.iter().flat_map(lines).collect()
    }

    /// What comes until a line begins with `last`.
    pub(super) async fn until(&mut self, last: &str) -> Played<Vec<String>> {
        let mut seen = Vec::new();
        let done = wait_for(last, || {
            seen.extend(self.poll());
            seen.iter().any(|line| line.starts_with(last)).then_some(())
        });
        let done = done.await;
        done.map_err(|failure| match failure {
            super::Failure::Broke(why) => super::Failure::Broke(format!("{why}; seen: {seen:?}")),
            other @ super::Failure::CantBePlayed(_) => other,
        })?;
        Ok(seen)
    }

    /// What comes until a line begins with `last`, or for some seconds; only the last end.
    pub(super) async fn until_at_most(&mut self, last: &str) -> Vec<String> {
        let end = tokio::time::Instant::now() + AT_MOST;
        let mut seen: Vec<String> = Vec::new();
        while tokio::time::Instant::now() < end && !seen.iter().any(|line| line.starts_with(last)) {
            seen.extend(self.poll());
            tokio::time::sleep(LOOK).await;
        }
        let last_end = seen.iter().rposition(|line| line.starts_with("end"));
        let is_kept = |at: usize, line: &str| !line.starts_with("end") || Some(at) == last_end;
        let numbered = seen.into_iter().enumerate();
        numbered.filter(|(at, line)| is_kept(*at, line)).map(|(_, line)| line).collect()
    }

    /// What comes within a while.
    pub(super) async fn within_a_while(&mut self) -> Vec<String> {
        let end = tokio::time::Instant::now() + QUIET;
        let mut seen = Vec::new();
        while tokio::time::Instant::now() < end {
            seen.extend(self.poll());
            tokio::time::sleep(LOOK).await;
        }
        seen
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(fetch) = self.fetch.take() {
            fetch.close();
        }
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "none".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn lines(event: &FetchEvent) -> Vec<String> {
    match event {
        FetchEvent::Run(run) => (0..run.len()).filter_map(|at| run.record(at)).map(line).collect(),
        FetchEvent::OutOfRange { offset, .. } => vec![format!("out of range at {offset}")],
        FetchEvent::End { offset, .. } => vec![format!("end at {offset}")],
        FetchEvent::Trouble { .. } => vec!["trouble".to_owned()],
        FetchEvent::Broken(_) => vec!["broken".to_owned()],
    }
}

fn line(record: pelton::Record<'_>) -> String {
    let key = record.key().map(|key| format!("{} ", text(Some(key)))).unwrap_or_default();
    let mut line = format!("{}: {key}{}", record.offset(), text(record.value()));
    for (name, value) in record.headers() {
        line.push_str(&format!(" [{name}: {}]", text(value)));
    }
    line
}
