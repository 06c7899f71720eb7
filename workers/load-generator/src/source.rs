//! How is a file opened, whatever it is packed in?

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::SourceError;
use crate::json_lines::JsonLines;
use crate::login::Login;
use crate::sshd::SshdLog;

/// What a file holds.
///
/// ```
/// assert_eq!(load_generator::Format::Sshd { year: 2026 }.to_string(), "sshd");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// An OpenSSH server's log.
    Sshd {
        /// The year of the first line, where lines have none.
        year: i16,
    },
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Sshd { .. } => "sshd",
        })
    }
}

/// Logins from a reader, that tell how many lines were none.
///
/// ```
/// use load_generator::{JsonLines, Logins};
///
/// assert_eq!(Logins::skipped(&JsonLines::new(&b""[..])), 0);
/// ```
pub trait Logins: Iterator<Item = Result<Login, SourceError>> + fmt::Debug + Send {
    /// Lines so far that are no logins and were passed over.
    fn skipped(&self) -> u64;
}

impl<R: BufRead + fmt::Debug + Send> Logins for JsonLines<R> {
    fn skipped(&self) -> u64 {
        0
    }
}

impl<R: BufRead + fmt::Debug + Send> Logins for SshdLog<R> {
    fn skipped(&self) -> u64 {
        Self::skipped(self)
    }
}

/// Logins from a file of any format.
///
/// ```
/// use load_generator::{JsonLines, Logins, SAMPLE, Source};
///
/// let mut source: Source = Box::new(JsonLines::new(SAMPLE)); // or open(path, format)?
/// let logins = source.by_ref().take(100).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!((logins.len(), source.skipped()), (100, 0));
/// # Ok::<(), load_generator::SourceError>(())
/// ```
pub type Source = Box<dyn Logins>;

/// Opens a file, plain or gzip; `-` is standard input.
///
/// ```no_run
/// use std::path::Path;
/// use load_generator::{Format, open};
///
/// for login in open(Path::new("/var/log/auth.log"), Format::Sshd { year: 2026 })? {
///     println!("{}", login?.to_json());
/// }
/// # Ok::<(), load_generator::SourceError>(())
/// ```
///
/// # Errors
///
/// If there is no such file, or it can't be read.
pub fn open(path: &Path, format: Format) -> Result<Source, SourceError> {
    let opened = || -> io::Result<Unpacked> {
        if path == Path::new("-") {
            return unpack(Box::new(io::stdin()));
        }
        unpack(Box::new(File::open(path)?))
    };
    let reader = opened().map_err(|source| SourceError::Open { path: path.to_owned(), source })?;
    Ok(match format {
        Format::Json => Box::new(JsonLines::new(reader)),
        Format::Sshd { year } => Box::new(SshdLog::new(reader, year)),
    })
}

type Unpacked = BufReader<DebugRead>;

/// Unpacks what begins like gzip, which neither JSON nor a log does.
fn unpack(reader: Box<dyn Read + Send>) -> io::Result<Unpacked> {
    let mut reader = BufReader::new(reader);
    let packed = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let plain: Box<dyn Read + Send> =
        if packed { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) };
    Ok(BufReader::new(DebugRead(plain)))
}

/// A reader that can be named in debug output.
struct DebugRead(Box<dyn Read + Send>);

impl Read for DebugRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl fmt::Debug for DebugRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Read")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LINE: &str = r#"{"user":"a","status":"success","ip":"x","at":"2026-01-01T00:00:00Z"}"#;

    #[test]
    fn plain_and_packed_files_read_alike_and_members_are_joined() {
        let folder = tempfile::tempdir().unwrap();
        let pack = |text: &str| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let twice = [pack(&format!("{LINE}\n")), pack(LINE)].concat();
        for (name, content) in [("plain", format!("{LINE}\n{LINE}").into_bytes()), ("gz", twice)] {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let logins: Result<Vec<_>, _> = open(&path, Format::Json).unwrap().collect();
            assert_eq!(logins.unwrap().len(), 2, "{name}");
        }
    }

    #[test]
    fn a_missing_and_a_damaged_file_are_errors_that_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&folder.path().join("none"), Format::Json).unwrap_err();
        assert!(error.to_string().contains("none can't be opened"), "{error}");
        let damaged = folder.path().join("damaged");
        std::fs::write(&damaged, b"\x1f\x8bnot gzip").unwrap();
        let error = open(&damaged, Format::Json).unwrap().next().unwrap().unwrap_err();
        assert!(matches!(error, SourceError::Read { line: 1, .. }), "{error}");
    }
}
