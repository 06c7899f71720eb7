//! What does a worker's admin endpoint say?

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pelton::admin::PartitionStatus;

/// On loopback an answer takes a millisecond; a worker that is slower is asked again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the worker at `address` owns.
pub(super) fn partitions(address: SocketAddr) -> io::Result<Vec<PartitionStatus>> {
    let answer = get(address, "/partitions")?;
    serde_json::from_slice(&answer).map_err(io::Error::other)
}

/// Whether the worker is in its group and has restored what it owns.
pub(super) fn is_ready(address: SocketAddr) -> bool {
    get(address, "/readyz").is_ok()
}

fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    body(&answer).map(<[u8]>::to_vec).ok_or_else(|| io::Error::other("no good answer"))
}

fn body(answer: &[u8]) -> Option<&[u8]> {
    const END: &[u8] = b"\r\n\r\n";
    let at = answer.windows(END.len()).position(|window| window == END)?;
    answer.starts_with(b"HTTP/1.1 200").then(|| &answer[at + END.len()..])
}

#[cfg(test)]
mod tests {
    use super::body;

    #[test]
    fn only_a_good_answer_has_a_body() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\na: b\r\n\r\n[]"), Some(&b"[]"[..]));
        assert_eq!(body(b"HTTP/1.1 503 No\r\n\r\n[]"), None);
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(body(b""), None);
    }
}
