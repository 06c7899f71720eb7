//! How are logins read from JSON lines?

use std::io::BufRead;

use crate::error::SourceError;
use crate::lines::{Line, Lines};
use crate::login::Login;

/// Logins from a file with one JSON object a line. Empty lines are passed over; any other line
/// that is no login is an error that names it, after which reading may go on.
///
/// ```
/// use load_generator::JsonLines;
///
/// let input = br#"{"user":"alice","status":"success","ip":"192.0.2.1","at":"2026-01-01T00:00:00Z"}
///
/// {"user":"bob"}"#;
/// let logins: Vec<_> = JsonLines::new(&input[..]).collect();
/// assert_eq!(logins[0].as_ref().unwrap().user, "alice");
/// assert!(logins[1].as_ref().unwrap_err().to_string().starts_with("line 3 is no login"));
/// ```
#[derive(Debug)]
pub struct JsonLines<R> {
    lines: Lines<R>,
    ended: bool,
}

impl<R: BufRead> JsonLines<R> {
    /// Reads from `reader`.
    pub const fn new(reader: R) -> Self {
        Self { lines: Lines::new(reader), ended: false }
    }
}

impl<R: BufRead> Iterator for JsonLines<R> {
    type Item = Result<Login, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let line = self.lines.number() + 1;
            let read = match self.lines.next() {
                Ok(Some(Line::Text(text))) if text.trim_ascii().is_empty() => continue,
                Ok(Some(Line::Text(text))) => Login::from_json(text)
                    .map_err(|error| SourceError::NoLogin { line, reason: in_few_words(&error) }),
                Ok(Some(Line::TooLong)) => {
                    let reason = "it is longer than 64 KiB".to_owned();
                    Err(SourceError::NoLogin { line, reason })
                }
                Ok(None) => break,
                Err(source) => {
                    self.ended = true;
                    Err(SourceError::Read { line, source })
                }
            };
            return Some(read);
        }
        self.ended = true;
        None
    }
}

/// serde quotes a value that does not fit, however long it is.
fn in_few_words(error: &serde_json::Error) -> String {
    error.to_string().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_end_in_logins_or_errors(input: Vec<u8>) {
            let lines = input.split(|byte| *byte == b'\n').count();
            prop_assert!(JsonLines::new(&input[..]).count() <= lines);
        }
    }
}
