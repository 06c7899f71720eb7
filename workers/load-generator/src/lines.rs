//! How is a file of unknown content read line by line, without trusting it?

use std::io::{self, BufRead, Read};

/// The longest line that is looked at; syslog's are below 8 KiB.
const LONGEST_BYTES: u64 = 64 * 1024;

/// A reader's lines as bytes, without their ends. Holds one line of at most 64 KiB.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    number: u64,
}

/// What a line turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Text(&'a [u8]),
    TooLong,
}

impl<R: BufRead> Lines<R> {
    pub(crate) const fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), number: 0 }
    }

    /// The number of the line read last, from 1.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let read = (&mut self.reader).take(LONGEST_BYTES).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
        } else if u64::try_from(read).is_ok_and(|read| read == LONGEST_BYTES) {
            self.skip_rest()?;
            return Ok(Some(Line::TooLong));
        }
        Ok(Some(Line::Text(&self.line)))
    }

    /// Drops what is left of a line.
    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            self.line.clear();
            let read = (&mut self.reader).take(LONGEST_BYTES).read_until(b'\n', &mut self.line)?;
            if read == 0 || self.line.last() == Some(&b'\n') {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_lines_are_taken_off_and_the_last_needs_none() {
        let mut lines = Lines::new(&b"a\r\n\nb"[..]);
        for text in [&b"a"[..], b"", b"b"] {
            assert_eq!(lines.next().unwrap(), Some(Line::Text(text)));
        }
        assert_eq!(lines.next().unwrap(), None);
        assert_eq!(lines.number(), 3);
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_ends_nothing() {
        let mut input = vec![b'x'; 300_000];
        input.extend(b"\nnext\n");
        let mut lines = Lines::new(&input[..]);
        assert_eq!(lines.next().unwrap(), Some(Line::TooLong));
        assert_eq!(lines.next().unwrap(), Some(Line::Text(b"next")));
        assert!(lines.line.capacity() <= 200_000);
    }
}
