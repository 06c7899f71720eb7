//! Which ports are free, and stay free while a node is down?

use std::io;
use std::net::TcpListener;

use crate::kafka::node::random;

/// Below the ports that systems give to outgoing connections (Linux from 32768, others from
/// 49152). A port of theirs could be taken while its node is down: even a client that keeps
/// connecting to the dead node can get it, and ends up connected to itself.
const FIRST: u64 = 15_000;
const COUNT: u64 = 17_000;

/// So many ports that nobody listens on, chosen at random so that clusters started at the same
/// time seldom meet. Another process may still be faster: then the node says so, and is given
/// others.
pub(crate) fn free(count: usize) -> Vec<u16> {
    // All are held until all are found, so none is given twice.
    let mut held = Vec::new();
    let mut ports = Vec::new();
    let start = random();
    for step in 0..COUNT {
        let Ok(port) = u16::try_from(FIRST + (start.wrapping_add(step * 7)) % COUNT) else {
            continue;
        };
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push(listener);
            ports.push(port);
        }
        if ports.len() == count {
            break;
        }
    }
    ports
}

/// Listens on one of these ports.
pub(crate) fn listen() -> io::Result<TcpListener> {
    let mut ports = free(16).into_iter();
    let found = ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "there are no free ports"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_can_be_listened_on() {
        let mut ports = free(8);
        let listening: Vec<_> =
            ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port)).unwrap()).collect();
        assert_eq!(listening.len(), 8);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 8);
    }
}
