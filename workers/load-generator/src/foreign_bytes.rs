//! What if a log was written to do harm? It is read to its end, in one pass, with bounded lines.
//!
//! `PROPTEST_CASES=1000000 cargo test -p load-generator foreign_bytes` is the long form.

use proptest::prelude::*;

use crate::damage::damaged;
use crate::json_lines::JsonLines;
use crate::login::Login;
use crate::sshd::SshdLog;

const SSHD: &[u8] = b"Mar 27 13:08:09 host sshd[7]: Failed password for root from 192.0.2.1 port 9 ssh2
Dec 31 23:59:59 host sshd-session[7]: message repeated 3 times: [ Failed password for invalid user a b from 192.0.2.1 port 9 ssh2]
2026-01-01T00:00:00.123456+02:00 host sshd[8]: Accepted publickey for alice from 2001:db8::1 port 22 ssh2: RSA SHA256:x
Jan  1 00:00:01 host CRON[8]: pam_unix(cron:session): session closed for user root
";

const JSON: &[u8] =
    br#"{"user":"alice","status":"success","ip":"192.0.2.1","at":"2026-01-01T00:00:00Z"}
{"user":"b\u00e9\ud83e\udd80","status":"failure","ip":"::1","at":"2026-01-01T00:00:00.5+02:00"}
"#;

/// More than these logs can hold, whatever they say of repeats.
const MOST: usize = 5_000_000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_sshd_log_is_read_to_its_end(bytes in damaged(Just(SSHD.to_vec())), year: i16) {
        let mut log = SshdLog::new(&bytes[..], year);
        let mut read = 0;
        for login in log.by_ref().take(MOST) {
            let login = login.expect("bytes in memory can be read");
            let json = login.to_json();
            prop_assert!(read > 10 || Login::from_json(json.as_bytes()).is_ok(), "{}", json);
            read += 1;
        }
        prop_assert!(read < MOST, "it does not end");
    }

    #[test]
    fn a_damaged_json_log_is_read_to_its_end(bytes in damaged(Just(JSON.to_vec()))) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let mut read = 0;
        for login in JsonLines::new(&bytes[..]) {
            match login {
                Ok(login) => prop_assert!(Login::from_json(login.to_json().as_bytes()).is_ok()),
                Err(error) => prop_assert!(error.to_string().len() < 2_000, "{}", error),
            }
            read += 1;
        }
        prop_assert!(read <= lines);
    }
}
