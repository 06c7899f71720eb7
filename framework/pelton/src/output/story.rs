//! What has become of a record, told in headers behind its own: where it is from, how it failed.

use std::str::from_utf8;

use crate::output::dead_letter::Failure;
use crate::record::Record;

/// What is told of a record besides its failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Story<'a> {
    /// So many attempts were made where it is now.
    pub(crate) attempts: u32,
    pub(crate) worker: &'a str,
    /// It is from a retry topic: it has a story already, which goes on.
    pub(crate) goes_on: bool,
}

/// The first header of a story.
const FIRST: &str = "pelton-source-topic";
const ATTEMPTS: &str = "pelton-attempts";

/// An error's text takes no more.
const ERROR_LIMIT_BYTES: usize = 2_000;

type Headers = Vec<(String, Option<Vec<u8>>)>;

/// The record's headers, and its story behind them.
pub(crate) fn told(record: &Record<'_>, story: Story<'_>, failure: Option<&Failure>) -> Headers {
    let own = record.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
    let mut headers: Headers = own.collect();
    let begun = headers.iter().rposition(|(name, _)| name == FIRST).filter(|_| story.goes_on);
    let before = begun.map(|at| headers.split_off(at)).unwrap_or_default();
    let said = |name: &str| {
        let found = before.iter().find(|(before, _)| before == name);
        found.and_then(|(_, value)| from_utf8(value.as_deref()?).ok()).map(str::to_owned)
    };
    let mut add = |name: &str, value: Option<String>| {
        headers.extend(value.map(|value| (name.to_owned(), Some(value.into_bytes()))));
    };
    let is_first = before.is_empty();
    for (name, here) in [
        (FIRST, Some(record.topic().to_owned())),
        ("pelton-source-partition", Some(record.partition().to_string())),
        ("pelton-source-offset", Some(record.offset().to_string())),
        ("pelton-source-timestamp", record.timestamp_ms().map(|at| at.to_string())),
    ] {
        add(name, if is_first { here } else { said(name) });
    }
    let earlier = said(ATTEMPTS).and_then(|attempts| attempts.parse().ok()).unwrap_or(0_u32);
    add(ATTEMPTS, Some(story.attempts.saturating_add(earlier).to_string()));
    let (code, text) = match failure {
        Some(failure) => {
            (Some(failure.kind.code().to_owned()), Some(cut(&failure.text).to_owned()))
        }
        None => (said("pelton-error-code"), said("pelton-error")),
    };
    add("pelton-error-code", code);
    add("pelton-error", text);
    add("pelton-worker", Some(story.worker.to_owned()));
    headers
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(ERROR_LIMIT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
