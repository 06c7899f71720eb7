//! How would an OpenSSH server have logged these logins?

use std::io::{self, Write};

use jiff::tz::TimeZone;

use crate::generated::TRIED;
use crate::login::{Login, Status};

/// Writes `logins` as an `auth.log`, with the lines around them that a real one has, and repeated
/// failures folded into `message repeated N times: [ … ]`.
///
/// [`SshdLog`](crate::SshdLog) reads the same logins in the same order from it, except that a
/// folded login has the time of the last one, fractions of seconds are gone, and control
/// characters in names are written as `\ooo`, as OpenSSH does.
///
/// ```
/// use load_generator::{Generated, SshdLog, print_sshd_log};
///
/// let mut log = Vec::new();
/// print_sshd_log(Generated::new(1, 20).take(100), &mut log)?;
/// assert_eq!(SshdLog::new(&log[..], 2026).count(), 100);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If `out` can't be written.
pub fn print_sshd_log(
    logins: impl IntoIterator<Item = Login>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut logins = logins.into_iter().peekable();
    let mut connection = 0;
    while let Some(mut login) = logins.next() {
        connection += 1;
        print_others(out, &login, connection)?;
        print_login(out, &login, connection, 1)?;
        let mut again = 0;
        while let Some(next) = logins.next_if(|next| is_again(&login, next)) {
            login = next;
            again += 1;
        }
        match again {
            0 => {}
            1 => print_login(out, &login, connection, 1)?,
            _ => print_login(out, &login, connection, again)?,
        }
        print_end(out, &login, connection)?;
    }
    Ok(())
}

fn is_again(login: &Login, next: &Login) -> bool {
    login.status == Status::Failure
        && next.status == Status::Failure
        && (&login.user, &login.ip) == (&next.user, &next.ip)
}

/// What comes before: now and then a cron job, and what sshd says of unknown names.
fn print_others(out: &mut impl Write, login: &Login, connection: u64) -> io::Result<()> {
    if connection % 12 == 1 {
        let (at, pid) = (time(login), pid(connection) - 1);
        writeln!(
            out,
            "{at} gate CRON[{pid}]: pam_unix(cron:session): session closed for user root"
        )?;
    }
    if is_unknown(login) {
        let (user, ip) = (escaped(&login.user), &login.ip);
        line(
            out,
            login,
            connection,
            &format!("Invalid user {user} from {ip} port {}", port(connection)),
        )?;
    }
    Ok(())
}

fn print_login(out: &mut impl Write, login: &Login, connection: u64, times: u64) -> io::Result<()> {
    let (user, ip, port) = (escaped(&login.user), &login.ip, port(connection));
    let message = match login.status {
        Status::Success => format!("Accepted publickey for {user} from {ip} port {port} ssh2"),
        Status::Failure => {
            let unknown = if is_unknown(login) { "invalid user " } else { "" };
            format!("Failed password for {unknown}{user} from {ip} port {port} ssh2")
        }
    };
    if times == 1 {
        line(out, login, connection, &message)
    } else {
        line(out, login, connection, &format!("message repeated {times} times: [ {message}]"))
    }
}

fn print_end(out: &mut impl Write, login: &Login, connection: u64) -> io::Result<()> {
    let (user, ip, port) = (escaped(&login.user), &login.ip, port(connection));
    let message = match login.status {
        Status::Success => {
            format!("pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)")
        }
        Status::Failure => format!("Connection closed by {ip} port {port} [preauth]"),
    };
    line(out, login, connection, &message)
}

fn line(out: &mut impl Write, login: &Login, connection: u64, message: &str) -> io::Result<()> {
    writeln!(out, "{} gate sshd[{}]: {message}", time(login), pid(connection))
}

fn time(login: &Login) -> impl std::fmt::Display {
    login.at.to_zoned(TimeZone::UTC).strftime("%b %e %H:%M:%S").to_string()
}

const fn pid(connection: u64) -> u64 {
    1_000 + connection * 3 % 30_000
}

const fn port(connection: u64) -> u64 {
    32_768 + connection * 7_919 % 28_000
}

fn is_unknown(login: &Login) -> bool {
    login.user.is_empty() || (login.user != "root" && TRIED.contains(&login.user.as_str()))
}

fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii_control() {
            escaped.push_str(&format!("\\{:03o}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::Generated;
    use crate::sshd::SshdLog;
    use crate::tally::Tally;

    fn tally(logins: impl Iterator<Item = Login>) -> Tally {
        let mut tally = Tally::default();
        (0..).zip(logins).for_each(|(seq, login)| tally.add(seq, &login));
        tally
    }

    #[test]
    fn what_is_printed_reads_as_the_same_logins_in_the_same_order() {
        let mut log = Vec::new();
        print_sshd_log(Generated::new(5, 50).take(3_000), &mut log).unwrap();
        let read = tally(SshdLog::new(&log[..], 2026).map(Result::unwrap));
        assert_eq!(read, tally(Generated::new(5, 50).take(3_000)));
        let log = String::from_utf8(log).unwrap();
        for part in ["CRON[", "Invalid user ", "message repeated ", "session opened for user "] {
            assert!(log.contains(part), "{part}");
        }
    }

    #[test]
    fn a_name_with_a_line_end_stays_on_its_line() {
        let mut login = Generated::new(1, 1).next().unwrap();
        login.user = "a\nb".to_owned();
        let mut log = Vec::new();
        print_sshd_log([login], &mut log).unwrap();
        let read: Vec<_> = SshdLog::new(&log[..], 2026).map(Result::unwrap).collect();
        assert_eq!(read[0].user, "a\\012b");
    }
}
