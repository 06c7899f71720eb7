//! What does a worker's admin endpoint answer? Asked as any HTTP client would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::ClusterError;

/// So long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer of an admin endpoint.
///
/// ```
/// use pelton_tests::Answer;
///
/// let text = "# HELP x Help.\nx{topic=\"a\",partition=\"0\"} 3\nx{topic=\"a\",partition=\"1\"} 4\n";
/// let answer = Answer { status: 200, body: text.to_owned() };
/// assert_eq!(answer.metric("x", &[("partition", "1")]), Some(4.0));
/// assert_eq!(answer.metric("x", &[("partition", "2")]), None);
/// ```
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// In Prometheus' text form: the first sample of this name with these labels among its own.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        self.body.lines().find_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?.strip_prefix('{')?.strip_suffix('}')?;
            let has = |label: &String| rest.split(',').any(|found| found == label);
            wanted.iter().all(has).then(|| value.parse().ok())?
        })
    }
}

/// Asks for a path.
pub(crate) fn ask(address: SocketAddr, path: &str) -> Result<Answer, ClusterError> {
    let io = || ClusterError::io(format!("asking {address} for {path}"));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(io())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(io())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(io())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(io())?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    match (status, body) {
        (Some(status), Some(body)) => Ok(Answer { status, body }),
        _ => Err(ClusterError::refused(format!("{address}{path}"), text)),
    }
}
