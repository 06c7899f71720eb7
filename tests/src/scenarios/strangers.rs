//! A member in a process of its own, so that it can be killed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pelton::ports::MemberEvent;
use pelton_testkit::scenarios::{Process, Protocol, Role, Stranger};

/// The first argument of a process that is to be a stranger.
const ROLE: &str = "stranger";

struct Killable(Child);

/// Starts this program once more, as a member.
pub(super) fn start(bootstrap: &str, role: &Role) -> std::io::Result<Box<dyn Stranger>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ROLE).arg(bootstrap).arg(&role.group).arg(&role.name);
    command.arg(word(role.protocol)).arg(role.topics.join(","));
    // Its end ends the other one, too, whatever ends this one.
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    Ok(Box::new(Killable(command.spawn()?)))
}

impl Stranger for Killable {
    fn tend(&mut self) {}

    fn kill(mut self: Box<Self>) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Range => "range",
        Protocol::Cooperative => "cooperative",
        Protocol::Consumer => "consumer",
    }
}

/// Turns this process into a stranger if it was started as one; then it never returns.
///
/// Call it first in the `main` of every program that plays scenarios.
pub fn run_if_asked() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, bootstrap, group, name, protocol, topics] = arguments.as_slice() else { return };
    if role != ROLE {
        return;
    }
    let protocol = match protocol.as_str() {
        "range" => Protocol::Range,
        "cooperative" => Protocol::Cooperative,
        _ => Protocol::Consumer,
    };
    let role = Role {
        name: name.clone(),
        group: group.clone(),
        topics: topics.split(',').map(str::to_owned).collect(),
        protocol,
        instance: None,
    };
    std::thread::spawn(|| {
        // Nobody writes: this ends when the one who started us does.
        let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        signal_hook::low_level::exit(0);
    });
    let member = super::ports(bootstrap, &role).ok().and_then(|ports| ports.member().ok());
    let Some(mut member) = member else { signal_hook::low_level::exit(1) };
    loop {
        match member.poll() {
            Some(MemberEvent::Assigned(_) | MemberEvent::Revoked(_) | MemberEvent::Lost(_)) => {
                if member.acknowledge().is_err() {
                    signal_hook::low_level::exit(1);
                }
            }
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
