//! How are times and sizes written? With their unit: `"25s"`, `"64MiB"`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes, written with its unit.
///
/// `"64MiB"` is 64 × 1024 × 1024 bytes, `"64MB"` is 64 × 1000 × 1000, `"512B"` is 512.
///
/// ```
/// use pelton::config::ByteCount;
///
/// let budget: ByteCount = "64MiB".parse()?;
/// assert_eq!(budget, ByteCount::from_mib(64));
/// assert_eq!(budget.as_u64(), 64 * 1024 * 1024);
/// assert_eq!(budget.to_string(), "64MiB");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteCount(u64);

impl ByteCount {
    /// `bytes` bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `mib` × 1024 × 1024 bytes; the largest count if that is too large to count.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1024 * 1024))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteCount {
    /// With the largest binary unit that leaves a whole number: what it prints can be read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let whole = self.0 >> shift;
            if whole > 0 && whole << shift == self.0 {
                return write!(f, "{whole}{unit}");
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let hint = "write a number with a unit, as in \"512B\", \"64KiB\", \"256MiB\" or \"1GiB\"";
        if text.is_empty() {
            return Err(format!("it is empty; {hint}"));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("the unit is missing; {hint}"));
        }
        match text.parse::<ByteSize>() {
            // The parser stops counting at the largest number there is.
            Ok(ByteSize(u64::MAX)) => Err(format!("it is too large to count; {hint}")),
            Ok(ByteSize(bytes)) => Ok(Self(bytes)),
            Err(_) => Err(format!("it is no size; {hint}")),
        }
    }
}

impl TryFrom<String> for ByteCount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ByteCount> for String {
    fn from(bytes: ByteCount) -> Self {
        bytes.to_string()
    }
}

/// For `#[serde(with)]`: a [`Duration`](std::time::Duration) written with its unit.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&written(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parsed(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    /// As a settings file writes it: `25s`, `1m 30s`.
    pub(crate) fn written(value: Duration) -> impl std::fmt::Display {
        humantime::format_duration(value)
    }

    pub(super) fn parsed(text: &str) -> Result<Duration, String> {
        let hint = "write a number with a unit, as in \"500ms\", \"25s\" or \"5m\"";
        let text = text.trim();
        humantime::parse_duration(text).map_err(|error| match error {
            humantime::DurationError::Empty => format!("it is empty; {hint}"),
            humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => {
                format!("the unit is missing; {hint}")
            }
            _ => format!("it is no length of time; {hint}"),
        })
    }
}

/// For `#[serde(with)]`: a length of time that may be left out.
pub(crate) mod optional_duration {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::duration::{parsed, written};

    #[expect(clippy::ref_option, reason = "serde's `with` asks for this shape")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(&written(*value)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| parsed(&text)).transpose().map_err(D::Error::custom)
    }
}

/// For `#[serde(with)]`: lengths of time that may be left out.
pub(crate) mod optional_durations {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::duration::{parsed, written};

    #[expect(clippy::ref_option, reason = "serde's `with` asks for this shape")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Vec<Duration>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = value.as_ref().map(|all| all.iter().map(|one| written(*one).to_string()));
        texts.map(Iterator::collect::<Vec<_>>).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<Duration>>, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(from)?;
        let all = texts.map(|texts| texts.iter().map(|text| parsed(text.trim())).collect());
        all.transpose().map_err(D::Error::custom)
    }
}

/// For `#[serde(deserialize_with)]`: an address with its port.
pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let hint = "write address:port, as in \"127.0.0.1:9464\" or \"[::1]:9464\"; a name won't do";
    String::deserialize(from)?.trim().parse().map_err(|_| D::Error::custom(hint))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ByteCount;
    use super::duration::parsed;

    #[test]
    fn a_size_reads_what_it_writes() {
        for text in ["1B", "1023B", "64KiB", "256MiB", "3GiB", "5TiB"] {
            assert_eq!(text.parse::<ByteCount>().unwrap().to_string(), text);
        }
        assert_eq!("64 MB".parse::<ByteCount>().unwrap().as_u64(), 64_000_000);
        assert_eq!("1.5GiB".parse::<ByteCount>().unwrap(), ByteCount::from_mib(1536));
    }

    #[test]
    fn a_size_without_sense_says_how_to_write_one() {
        for (text, problem) in [
            ("", "it is empty"),
            ("64", "the unit is missing"),
            ("64 parsec", "it is no size"),
            ("-1MiB", "it is no size"),
            ("99999999999999EiB", "it is too large to count"),
        ] {
            let error = text.parse::<ByteCount>().unwrap_err();
            assert!(error.starts_with(problem), "{text}: {error}");
            assert!(error.ends_with("\"256MiB\" or \"1GiB\""), "{error}");
        }
    }

    #[test]
    fn a_length_of_time_needs_its_unit() {
        assert_eq!(parsed("25s").unwrap(), Duration::from_secs(25));
        assert_eq!(parsed(" 1m 30s ").unwrap(), Duration::from_secs(90));
        for (text, problem) in [
            ("", "it is empty"),
            ("25", "the unit is missing"),
            ("soon", "it is no length of time"),
            ("-1s", "it is no length of time"),
            ("999999999999999999999s", "it is no length of time"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with(problem), "{text}: {error}");
        }
    }
}
