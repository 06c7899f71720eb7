//! How does a container without a shell ask its worker how it is? By the same program: `--health`.
//!
//! It is given the worker's own settings, so it finds the endpoint where the worker listens.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::AdminSettings;

/// Each step of asking may take so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// More of an answer is not read.
const ANSWER_BYTES: u64 = 64 * 1024;

/// What the worker answers to a probe (`livez`); as an error where it is not well, or not there.
pub(crate) fn ask(admin: &AdminSettings, probe: &str) -> Result<String, String> {
    let address = address(admin)?;
    let answer = exchange(address, probe)
        .map_err(|error| format!("no answer from http://{address}/{probe}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(status) => Err(format!("{status} from http://{address}/{probe}: {body}")),
        None => Err(format!("what listens on {address} speaks no HTTP")),
    }
}

/// Where to ask a worker that listens as these settings say.
fn address(admin: &AdminSettings) -> Result<SocketAddr, String> {
    if !admin.enabled {
        return Err("there is no endpoint to ask: admin.enabled is false".to_owned());
    }
    let mut address = admin.listen;
    if address.port() == 0 {
        return Err("admin.listen has port 0, so the port is any; give it a fixed one".to_owned());
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

fn exchange(address: SocketAddr, probe: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /{probe} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{AdminSettings, address};

    fn listening(listen: &str) -> AdminSettings {
        AdminSettings { listen: listen.parse().unwrap(), ..AdminSettings::default() }
    }

    #[test]
    fn a_worker_is_asked_where_it_listens() {
        for (listen, asked) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(address(&listening(listen)).unwrap().to_string(), asked);
        }
        assert!(address(&listening("0.0.0.0:0")).unwrap_err().contains("port 0"));
        let off = AdminSettings { enabled: false, ..AdminSettings::default() };
        assert!(address(&off).unwrap_err().contains("admin.enabled"));
    }
}
