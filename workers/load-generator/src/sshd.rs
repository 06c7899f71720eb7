//! How are logins read from an OpenSSH server's log?
//!
//! A login is a line `Accepted METHOD for USER from IP port N …` or `Failed METHOD for [invalid
//! user ]USER from IP port N …` of `sshd` (`sshd-session` since OpenSSH 9.8). All other lines are
//! counted and passed over.
//!
//! - **`message repeated N times: [ … ]`** (rsyslog) is N further logins at that line's time.
//! - **Time.** `Mar 27 13:08:09` has neither year nor zone: the year is given by the caller for
//!   the first line and grows by one when December is followed by January; UTC is assumed.
//!   RFC 3339 (newer rsyslog) has both.
//! - **User names** may hold anything, so the line is split at its *last* ` from IP port N`: a name
//!   such as `x from 192.0.2.1 port 9` stays a name. Names that are no valid UTF-8 keep their
//!   valid parts; each other byte becomes `\ooo`, three octal digits, as OpenSSH itself writes
//!   bytes that it does not print.

use std::io::BufRead;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::error::SourceError;
use crate::lines::{Line, Lines};
use crate::login::{Login, Status};

/// Logins from an OpenSSH server's log (`auth.log`, `secure`).
///
/// ```
/// use load_generator::SshdLog;
///
/// let log = b"Mar 27 13:08:09 host sshd[7]: Failed password for root from 192.0.2.1 port 9 ssh2
/// Mar 27 13:08:11 host sshd[7]: message repeated 2 times: [ Failed password for root from 192.0.2.1 port 9 ssh2]
/// Mar 27 13:09:00 host CRON[8]: pam_unix(cron:session): session closed for user root
/// ";
/// let mut logins = SshdLog::new(&log[..], 2017);
/// assert_eq!(logins.by_ref().count(), 3);
/// assert_eq!(logins.skipped(), 1);
/// ```
#[derive(Debug)]
pub struct SshdLog<R> {
    lines: Lines<R>,
    calendar: Calendar,
    repeat: Option<(Login, u64)>,
    skipped: u64,
    ended: bool,
}

impl<R: BufRead> SshdLog<R> {
    /// Reads from `reader`; `year` is the year of the first line, for lines that have none.
    pub const fn new(reader: R, year: i16) -> Self {
        let calendar = Calendar { year, month: 0 };
        Self { lines: Lines::new(reader), calendar, repeat: None, skipped: 0, ended: false }
    }

    /// Lines so far that are no logins.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl<R: BufRead> Iterator for SshdLog<R> {
    type Item = Result<Login, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((login, left)) = &mut self.repeat
                && *left > 0
            {
                *left -= 1;
                return Some(Ok(login.clone()));
            }
            self.repeat = None;
            if self.ended {
                return None;
            }
            match self.lines.next() {
                Ok(Some(Line::Text(line))) => match read_line(line, &mut self.calendar) {
                    Some(logins) => self.repeat = Some(logins),
                    None => self.skipped += 1,
                },
                Ok(Some(Line::TooLong)) => self.skipped += 1,
                Ok(None) => self.ended = true,
                Err(source) => {
                    self.ended = true;
                    return Some(Err(SourceError::Read { line: self.lines.number() + 1, source }));
                }
            }
        }
    }
}

/// The year that lines without one belong to.
#[derive(Clone, Copy, Debug)]
struct Calendar {
    year: i16,
    month: i8,
}

impl Calendar {
    fn year_of(&mut self, month: i8) -> i16 {
        if self.month == 12 && month == 1 {
            self.year = self.year.saturating_add(1);
        }
        self.month = month;
        self.year
    }
}

/// A line's login and how often it happened.
fn read_line(line: &[u8], calendar: &mut Calendar) -> Option<(Login, u64)> {
    let (at, rest) = read_time(line, calendar)?;
    let (_host, rest) = split_at_space(rest)?;
    let (tag, rest) = split_at_space(rest)?;
    if !is_sshd(tag) {
        return None;
    }
    let (times, rest) = read_repetition(rest)?;
    let (verdict, rest) = split_at_space(rest)?;
    let status = match verdict {
        b"Accepted" => Status::Success,
        b"Failed" => Status::Failure,
        _ => return None,
    };
    let (_method, rest) = split_at_space(rest)?;
    let rest = rest.strip_prefix(b"for ")?;
    // Without an account the words "invalid user " come first. Where taking them off leaves no
    // name at all, they are the name.
    let (user, ip) = rest
        .strip_prefix(b"invalid user ")
        .and_then(split_name_and_address)
        .or_else(|| split_name_and_address(rest))?;
    let login = Login { user: readable(user), status, ip: readable(ip), at };
    Some((login, times))
}

/// `Mar  7 13:08:09 ` or `2017-03-07T13:08:09.123+00:00 `, and what follows.
fn read_time<'a>(line: &'a [u8], calendar: &mut Calendar) -> Option<(Timestamp, &'a [u8])> {
    if line.first()?.is_ascii_digit() {
        let (time, rest) = split_at_space(line)?;
        return Some((std::str::from_utf8(time).ok()?.parse().ok()?, rest));
    }
    let (month, rest) = split_at_space(line)?;
    let (day, rest) = split_at_space(rest.trim_ascii_start())?;
    let (time, rest) = split_at_space(rest)?;
    let [h0, h1, b':', m0, m1, b':', s0, s1] = time else {
        return None;
    };
    let month = month_number(month)?;
    let day = two_digits(day)?;
    let (hour, minute, second) = (pair(*h0, *h1)?, pair(*m0, *m1)?, pair(*s0, *s1)?);
    let year = calendar.year_of(month);
    let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some((Offset::UTC.to_timestamp(time).ok()?, rest))
}

fn month_number(name: &[u8]) -> Option<i8> {
    let names: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    (1..).zip(names).find(|(_, known)| *known == name).map(|(number, _)| number)
}

fn two_digits(text: &[u8]) -> Option<i8> {
    match text {
        [ones] => pair(b'0', *ones),
        [tens, ones] => pair(*tens, *ones),
        _ => None,
    }
}

fn pair(tens: u8, ones: u8) -> Option<i8> {
    let digit = |byte: u8| char::from(byte).to_digit(10).and_then(|digit| i8::try_from(digit).ok());
    Some(digit(tens)? * 10 + digit(ones)?)
}

/// `sshd[PID]:`, `sshd-session[PID]:`.
fn is_sshd(tag: &[u8]) -> bool {
    let pid = tag.strip_prefix(b"sshd").map(|tag| tag.strip_prefix(b"-session").unwrap_or(tag));
    pid.and_then(|tag| tag.strip_prefix(b"["))
        .and_then(|tag| tag.strip_suffix(b"]:"))
        .is_some_and(is_number)
}

/// A line that says it stands for more is not believed.
const MOST_REPEATS: u64 = 1_000_000;

/// How often the message stands for itself, and the message.
fn read_repetition(message: &[u8]) -> Option<(u64, &[u8])> {
    let Some(rest) = message.strip_prefix(b"message repeated ") else {
        return Some((1, message));
    };
    let (times, rest) = split_at_space(rest)?;
    let times = is_number(times).then(|| std::str::from_utf8(times).ok()?.parse().ok())??;
    // One line must not keep a reader busy for ever.
    let times = Some(times).filter(|times| *times <= MOST_REPEATS)?;
    Some((times, rest.strip_prefix(b"times: [ ")?))
}

/// Splits `USER from IP port N …` at the last place where it can be.
fn split_name_and_address(text: &[u8]) -> Option<(&[u8], &[u8])> {
    const FROM: &[u8] = b" from ";
    (0..text.len()).rev().find_map(|at| {
        let address = text[at..].strip_prefix(FROM)?;
        let (ip, rest) = split_at_space(address)?;
        let port = rest.strip_prefix(b"port ")?;
        let starts_well = port.first().is_some_and(u8::is_ascii_digit) && !ip.is_empty();
        starts_well.then_some((&text[..at], ip))
    })
}

fn split_at_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..at], &text[at + 1..]))
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// The text; each byte that is not part of valid UTF-8 becomes `\ooo`.
fn readable(text: &[u8]) -> String {
    let mut readable = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        readable.push_str(chunk.valid());
        for byte in chunk.invalid() {
            readable.push_str(&format!("\\{byte:03o}"));
        }
    }
    readable
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn logins(log: &[u8]) -> (Vec<Login>, u64) {
        let mut source = SshdLog::new(log, 2017);
        let logins = source.by_ref().map(Result::unwrap).collect();
        (logins, source.skipped())
    }

    fn only(message: &str) -> Option<Login> {
        let line = format!("Mar  7 01:02:03 host sshd[7]: {message}\n");
        logins(line.as_bytes()).0.into_iter().next()
    }

    fn user_of(message: &str) -> Option<String> {
        only(message).map(|login| login.user)
    }

    #[test]
    fn accepted_and_failed_lines_are_logins_with_their_time_in_utc() {
        let login =
            only("Accepted publickey for ubuntu from ::1 port 5 ssh2: RSA SHA256:x").unwrap();
        assert_eq!((login.user.as_str(), login.ip.as_str()), ("ubuntu", "::1"));
        assert_eq!(login.status, Status::Success);
        assert_eq!(login.at.to_string(), "2017-03-07T01:02:03Z");
        let login = only("Failed none for invalid user pi from 192.0.2.1 port 5 ssh2").unwrap();
        assert_eq!((login.user.as_str(), login.status), ("pi", Status::Failure));
    }

    #[test]
    fn everything_else_is_skipped_and_counted() {
        let log = b"Mar  7 01:02:03 h CRON[1]: Failed password for a from b port 1\n\
            Mar  7 01:02:03 h sshd[1]: Invalid user a from 192.0.2.1\n\
            Mar  7 01:02:03 h sshd[1]: Postponed publickey for a from b port 1 ssh2\n\
            Mar  7 01:02:03 h sshd[x]: Failed password for a from b port 1\n\
            Mar 77 01:02:03 h sshd[1]: Failed password for a from b port 1\n\
            Mar  7 1:02:03 h sshd[1]: Failed password for a from b port 1\n\
            Mai  7 01:02:03 h sshd[1]: Failed password for a from b port 1\n\
            \n\xff\n";
        assert_eq!(logins(log), (Vec::new(), 9));
    }

    #[test]
    fn a_repeated_message_is_expanded() {
        for times in [0, 1, 5] {
            let log = format!(
                "Mar 29 23:18:33 h sshd[1]: message repeated {times} times: [ Failed password for root from 192.0.2.1 port 9 ssh2]"
            );
            let (logins, skipped) = logins(log.as_bytes());
            assert_eq!((logins.len(), skipped), (times, 0));
            assert!(logins.iter().all(|login| login.user == "root"));
        }
        for times in ["99999999999999999999", "1000001"] {
            let too_often =
                format!("message repeated {times} times: [ Failed password for a from b port 1]");
            assert_eq!(only(&too_often), None);
        }
    }

    #[test]
    fn a_user_name_may_be_anything() {
        let failed = |user: &str| format!("Failed password for {user} from 192.0.2.1 port 9 ssh2");
        for (user, named) in [
            ("invalid user ", ""),
            ("", ""),
            ("invalid user a b", "a b"),
            ("invalid user invalid user x", "invalid user x"),
            ("invalid user", "invalid user"),
            ("x from 203.0.113.9 port 22", "x from 203.0.113.9 port 22"),
            ("from", "from"),
            ("ü\\303", "ü\\303"),
        ] {
            assert_eq!(user_of(&failed(user)).as_deref(), Some(named), "{user:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_become_octal_as_openssh_writes_them() {
        let line = b"Mar  7 01:02:03 h sshd[1]: Failed password for invalid user a\xff\xc3(\xc3\xbc from 192.0.2.1 port 9";
        assert_eq!(logins(line).0[0].user, "a\\377\\303(ü");
    }

    #[test]
    fn newer_logs_have_whole_times_and_another_name() {
        let line = b"2026-03-07T01:02:03.5+02:00 h sshd-session[1]: Failed password for a from b port 1 ssh2";
        assert_eq!(logins(line).0[0].at.to_string(), "2026-03-06T23:02:03.5Z");
    }

    #[test]
    fn a_log_over_new_year_goes_on_in_the_next_year() {
        let of =
            |day: &str| format!("{day} 00:00:00 h sshd[1]: Failed password for a from b port 1\n");
        let log = ["Nov 30", "Dec 31", "Jan  1", "Feb 28"].map(of).concat();
        let years: Vec<_> = logins(log.as_bytes())
            .0
            .iter()
            .map(|login| login.at.to_string()[..4].to_owned())
            .collect();
        assert_eq!(years, ["2017", "2017", "2018", "2018"]);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_logins_or_skipped_lines(input: Vec<u8>) {
            let lines = input.split_inclusive(|byte| *byte == b'\n').count();
            let (logins, skipped) = logins(&input);
            prop_assert_eq!(logins.len() + usize::try_from(skipped).unwrap(), lines);
        }

        #[test]
        fn any_bytes_inside_a_login_line_are_its_user(
            user in proptest::collection::vec(any::<u8>().prop_filter("one line", |b| *b != b'\n'), 0..40),
        ) {
            let mut line = b"Mar  7 01:02:03 h sshd[1]: Failed password for invalid user ".to_vec();
            line.extend(&user);
            line.extend(b" from 192.0.2.1 port 9 ssh2");
            prop_assert_eq!(&logins(&line).0[0].user, &readable(&user));
        }

        #[test]
        fn a_line_of_the_right_shape_never_panics(
            line in "(Jan|Feb|Dec|2026-01-01T00:00:00Z)? {0,2}[0-9]{0,3} [0-9:]{0,9} h sshd\\[[0-9]{1,3}\\]: (message repeated [0-9]{1,2} times: \\[ )?(Accepted|Failed) .{0,30} from .{0,9} port .{0,3}",
        ) {
            logins(line.as_bytes());
        }
    }
}
