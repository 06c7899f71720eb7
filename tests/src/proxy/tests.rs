//! Does the proxy do to connections what it is told? Held against a plain echo server.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Proxy, Way, Weather};
use crate::waiting::{Stopwatch, wait_for};

const SOON: Duration = Duration::from_secs(10);

/// Says again what it hears; counts bytes heard, and connections that were reset.
#[derive(Clone, Default)]
struct Echo {
    heard: Arc<AtomicUsize>,
    resets: Arc<AtomicUsize>,
}

impl Echo {
    fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = Self::default();
        let this = echo.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = this.clone();
                std::thread::spawn(move || this.serve(stream));
            }
        });
        (echo, address)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut bytes = [0; 4096];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(length) => {
                    self.heard.fetch_add(length, Ordering::Relaxed);
                    if stream.write_all(&bytes[..length]).is_err() {
                        return;
                    }
                }
                Err(_) => {
                    self.resets.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }
}

fn proxied() -> (Echo, Proxy, TcpStream) {
    let (echo, address) = Echo::start();
    let proxy = Proxy::before(&[address], 7).unwrap();
    let client = connect(&proxy);
    (echo, proxy, client)
}

fn connect(proxy: &Proxy) -> TcpStream {
    try_to_connect(proxy).unwrap()
}

fn try_to_connect(proxy: &Proxy) -> std::io::Result<TcpStream> {
    let client = TcpStream::connect(proxy.gate(1).unwrap())?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(SOON))?;
    Ok(client)
}

/// How a connection ends that nobody wants. The reset may be there before the connection is.
fn refusal(proxy: &Proxy) -> ErrorKind {
    let read = try_to_connect(proxy).and_then(|mut client| client.read(&mut [0; 4]));
    read.unwrap_err().kind()
}

/// Sends and hears the same again; how long that took.
fn round_trip(client: &mut TcpStream) -> Duration {
    let watch = Stopwatch::start();
    client.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    watch.elapsed()
}

/// The quickest of five: on a busy machine any one may take long.
fn quickest(client: &mut TcpStream) -> Duration {
    (0..5).map(|_| round_trip(client)).min().unwrap()
}

/// Does nothing come for so long?
fn is_silent(client: &mut TcpStream, time: Duration) -> bool {
    client.set_read_timeout(Some(time)).unwrap();
    let read = client.read(&mut [0; 16]);
    client.set_read_timeout(Some(SOON)).unwrap();
    matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_good_way_is_quick_and_a_long_one_takes_its_time_in_each_direction() {
    let (_echo, proxy, mut client) = proxied();
    assert!(quickest(&mut client) < Duration::from_millis(150));
    let (ms, late) = (Duration::from_millis, |delay| Way::delayed(delay, Duration::ZERO));
    proxy.set(1, Weather { to_broker: late(ms(150)), ..Weather::default() }).unwrap();
    assert!((ms(150)..ms(290)).contains(&quickest(&mut client)));
    proxy.set(1, Weather::both(late(ms(150)))).unwrap();
    assert!(round_trip(&mut client) >= ms(300));
    proxy.heal();
    assert!(quickest(&mut client) < ms(150));
}

#[test]
fn jitter_makes_delays_differ_and_keeps_order() {
    let (_echo, proxy, mut client) = proxied();
    let late = Way::delayed(Duration::from_millis(40), Duration::from_millis(40));
    proxy.set(1, Weather { to_broker: late, ..Weather::default() }).unwrap();
    let times: Vec<_> = (0..8).map(|_| round_trip(&mut client)).collect();
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*most - *least > Duration::from_millis(10), "{times:?}");
    for number in 0_u8..50 {
        client.write_all(&[number]).unwrap();
        std::thread::sleep(Duration::from_millis(1)); // so that it goes alone
    }
    let mut heard = [0; 50];
    client.read_exact(&mut heard).unwrap();
    assert!(heard.is_sorted(), "{heard:?}");
}

#[test]
fn more_may_be_under_way_on_a_long_way() {
    let (_echo, proxy, mut client) = proxied();
    let late = Way::delayed(Duration::from_millis(100), Duration::ZERO);
    proxy.set(1, Weather::both(late)).unwrap();
    let watch = Stopwatch::start();
    for _ in 0..20 {
        client.write_all(&[1; 64]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    client.read_exact(&mut [0; 20 * 64]).unwrap();
    assert!(watch.elapsed() < Duration::from_secs(2), "{:?}", watch.elapsed());
}

#[test]
fn a_narrow_way_passes_its_rate_for_all_connections_together() {
    let (_echo, proxy, mut first) = proxied();
    let mut second = connect(&proxy);
    let narrow = Weather { to_broker: Way::limited(100_000), ..Weather::default() };
    proxy.set(1, narrow).unwrap();
    let watch = Stopwatch::start();
    for client in [&mut first, &mut second] {
        client.write_all(&[1; 30_000]).unwrap();
    }
    for client in [&mut first, &mut second] {
        client.read_exact(&mut [0; 30_000]).unwrap();
    }
    let took = watch.elapsed();
    assert!((Duration::from_millis(550)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[test]
fn a_dead_way_to_the_broker_holds_requests_until_it_is_good_again() {
    let (echo, proxy, mut client) = proxied();
    round_trip(&mut client);
    proxy.set(1, Weather { to_broker: Way::dead(), ..Weather::default() }).unwrap();
    client.write_all(b"pong").unwrap();
    assert!(is_silent(&mut client, Duration::from_millis(200)));
    assert_eq!(echo.heard(), 4, "it hears nothing");
    proxy.heal();
    client.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(echo.heard(), 8);
}

#[test]
fn a_dead_way_to_the_client_lets_requests_through_and_holds_answers() {
    let (echo, proxy, mut client) = proxied();
    round_trip(&mut client);
    proxy.set(1, Weather { to_client: Way::dead(), ..Weather::default() }).unwrap();
    client.write_all(b"pong").unwrap();
    wait_for("the request", SOON, || (echo.heard() == 8).then_some(())).unwrap();
    assert!(is_silent(&mut client, Duration::from_millis(200)));
    proxy.heal();
    client.read_exact(&mut [0; 4]).unwrap();
}

#[test]
fn a_cut_resets_both_ends_and_new_connections_work() {
    let (echo, proxy, mut client) = proxied();
    round_trip(&mut client);
    assert_eq!(proxy.cut(1).unwrap(), 1);
    let error = client.read(&mut [0; 4]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let reset = || (echo.resets.load(Ordering::Relaxed) == 1).then_some(());
    wait_for("the reset at the server", SOON, reset).unwrap();
    round_trip(&mut connect(&proxy));
}

#[test]
fn who_is_refused_is_reset_and_who_was_there_stays() {
    let (_echo, proxy, mut client) = proxied();
    round_trip(&mut client);
    proxy.set(1, Weather::refusing()).unwrap();
    assert_eq!(refusal(&proxy), ErrorKind::ConnectionReset);
    round_trip(&mut client);
    proxy.heal();
    round_trip(&mut connect(&proxy));
    assert!(proxy.live(1).unwrap() >= 1);
}

#[test]
fn a_broker_that_is_not_there_looks_like_a_reset_and_ends_are_passed_on() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::before(&[unused], 7).unwrap();
    assert_eq!(refusal(&proxy), ErrorKind::ConnectionReset);
    assert!(proxy.set(2, Weather::default()).is_err(), "there is one gate");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::before(&[listener.local_addr().unwrap()], 7).unwrap();
    let mut client = connect(&proxy);
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"bye").unwrap();
    drop(server);
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"bye");
}
