//! What is a login, and how is it written?

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One attempt to log in.
///
/// Reading it also takes the names `outcome`, `src_ip` and `ts` for `status`, `ip` and `at`;
/// other fields are ignored. `at` may have any offset and is written in UTC.
///
/// ```
/// use load_generator::{Login, Status};
///
/// let text = r#"{"user":"alice","status":"success","ip":"192.0.2.7","at":"2026-01-01T10:00:00+02:00"}"#;
/// let login = Login::from_json(text.as_bytes()).unwrap();
/// assert_eq!(login.status, Status::Success);
/// assert_eq!(
///     login.to_json(),
///     r#"{"user":"alice","status":"success","ip":"192.0.2.7","at":"2026-01-01T08:00:00Z"}"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Who; the record's key. May be empty, as in a real log.
    pub user: String,
    /// Whether it succeeded.
    #[serde(alias = "outcome")]
    pub status: Status,
    /// Where from: an address, or what the source wrote in its place.
    #[serde(alias = "src_ip")]
    pub ip: String,
    /// When.
    #[serde(alias = "ts", serialize_with = "write_time", deserialize_with = "read_time")]
    pub at: Timestamp,
}

/// How an attempt ended.
///
/// ```
/// assert_eq!(load_generator::Status::Failure.as_str(), "failure");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The user is in.
    Success,
    /// The user is not.
    Failure,
}

impl Status {
    /// The word for it in a record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

impl Login {
    /// Reads the JSON of one login.
    ///
    /// # Errors
    ///
    /// If it is no JSON, lacks a field, or has one of the wrong form.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The JSON of it, on one line: a record's value.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A struct of texts can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn write_time<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!("{text:?} is no time as in 2026-01-01T00:00:00Z"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_names_of_the_fields_are_read_too() {
        let text = r#"{"seq":7,"ts":"2017-03-27T13:08:09Z","user":"","src_ip":"::1",
            "outcome":"failure","method":"password","known_user":false,"port":9}"#;
        let login = Login::from_json(text.as_bytes()).unwrap();
        assert_eq!((login.user.as_str(), login.ip.as_str()), ("", "::1"));
        assert_eq!(login.status, Status::Failure);
        assert_eq!(login.at.to_string(), "2017-03-27T13:08:09Z");
    }

    #[test]
    fn any_user_name_survives_json() {
        for user in ["", " ", "a\"b\\c", "tab\tand\nline", "\u{0}", "ü 🦀"] {
            let at = Timestamp::UNIX_EPOCH;
            let login =
                Login { user: user.to_owned(), status: Status::Success, ip: "x".into(), at };
            assert_eq!(Login::from_json(login.to_json().as_bytes()).unwrap(), login);
        }
    }

    #[test]
    fn what_is_no_login_is_refused_with_a_reason() {
        for (text, reason) in [
            ("{", "EOF"),
            (r#"{"user":"a","status":"success","ip":"x"}"#, "missing field `at`"),
            (r#"{"user":"a","status":"maybe","ip":"x","at":"2026-01-01T00:00:00Z"}"#, "maybe"),
            (r#"{"user":"a","status":"success","ip":"x","at":"soon"}"#, "no time"),
            (r#"{"user":null,"status":"success","ip":"x","at":"2026-01-01T00:00:00Z"}"#, "null"),
        ] {
            let error = Login::from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
