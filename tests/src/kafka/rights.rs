//! What may a user of a cluster do, and how is that changed quickly?
//!
//! `kafka-acls` takes a JVM of its own for each change; tests make many. The two requests that it
//! sends are small, and are written here by hand (versions 1, `CreateAclsRequest.json` and
//! `DeleteAclsRequest.json` of Apache Kafka).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::{ClusterError, Names};

const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const ANSWER: Duration = Duration::from_secs(30);

/// What a right is on.
///
/// ```
/// use pelton_tests::Resource;
/// assert_ne!(Resource::Topic, Resource::Group);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic = 2,
    /// A consumer group.
    Group = 3,
}

/// What a right allows.
///
/// ```
/// use pelton_tests::Operation;
/// assert_ne!(Operation::Read, Operation::Write);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetch, join, commit.
    Read = 3,
    /// Produce.
    Write = 4,
    /// Create the topic.
    Create = 5,
    /// See that it exists.
    Describe = 8,
    /// Read its settings.
    DescribeConfigs = 10,
}

/// One thing that somebody may do with one topic or group.
///
/// ```
/// use pelton_tests::{Operation, Resource, Right};
///
/// let right = Right::new(Operation::Read, Resource::Topic, "user_logins");
/// assert_eq!(right.to_string(), "Read on topic user_logins");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    operation: Operation,
    resource: Resource,
    name: String,
}

impl Right {
    /// The right to do `operation` with what bears that very name.
    #[must_use]
    pub fn new(operation: Operation, resource: Resource, name: &str) -> Self {
        Self { operation, resource, name: name.to_owned() }
    }

    /// What it allows.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// As `kafka-acls` takes it: `--operation Read --topic user_logins`.
    #[must_use]
    pub fn as_arguments(&self) -> String {
        let resource = format!("{:?}", self.resource).to_lowercase();
        format!("--operation {:?} --{resource} {}", self.operation, self.name)
    }

    /// All that a login counter needs, and nothing else.
    #[must_use]
    pub fn of_a_counter(names: &Names) -> Vec<Self> {
        let changelog = names.changelog();
        let topic = |operation, name: &str| Self::new(operation, Resource::Topic, name);
        vec![
            topic(Operation::Read, &names.input),
            topic(Operation::Write, &names.output),
            topic(Operation::Create, &changelog),
            topic(Operation::Read, &changelog),
            topic(Operation::Write, &changelog),
            topic(Operation::DescribeConfigs, &changelog),
            Self::new(Operation::Read, Resource::Group, &names.group),
        ]
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let resource = format!("{:?}", self.resource).to_lowercase();
        write!(f, "{:?} on {resource} {}", self.operation, self.name)
    }
}

const LITERAL: u8 = 3;
const ALLOW: u8 = 3;

/// Gives rights to a user (`User:` is added).
pub(crate) fn grant(port: u16, user: &str, rights: &[Right]) -> Result<(), ClusterError> {
    let answer = ask(port, CREATE_ACLS, user, rights)?;
    every_one_done("granting", rights, &answer)
}

/// Takes rights from a user.
pub(crate) fn revoke(port: u16, user: &str, rights: &[Right]) -> Result<(), ClusterError> {
    let answer = ask(port, DELETE_ACLS, user, rights)?;
    every_one_done("revoking", rights, &answer)
}

fn ask(port: u16, api: i16, user: &str, rights: &[Right]) -> Result<Vec<u8>, ClusterError> {
    let mut body = Vec::new();
    body.extend(api.to_be_bytes());
    body.extend(1_i16.to_be_bytes()); // version
    body.extend(1_i32.to_be_bytes()); // correlation id
    text(&mut body, "pelton-tests");
    body.extend(i32::try_from(rights.len()).unwrap_or(0).to_be_bytes());
    for right in rights {
        body.push(right.resource as u8);
        text(&mut body, &right.name);
        body.push(LITERAL);
        text(&mut body, &format!("User:{user}"));
        text(&mut body, "*"); // from any host
        body.extend([right.operation as u8, ALLOW]);
    }
    exchange(port, &body).map_err(ClusterError::io("asking for other rights"))
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(i16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    body.extend(text.as_bytes());
}

fn exchange(port: u16, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut node = TcpStream::connect_timeout(&address, ANSWER)?;
    node.set_read_timeout(Some(ANSWER))?;
    node.write_all(&i32::try_from(body.len()).unwrap_or(0).to_be_bytes())?;
    node.write_all(body)?;
    let mut size = [0; 4];
    node.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap_or(0)];
    node.read_exact(&mut answer)?;
    Ok(answer)
}

/// The answer's first error is what counts: its correlation id, the throttle time, the number of
/// results, and of the first one a code.
fn every_one_done(what: &str, rights: &[Right], answer: &[u8]) -> Result<(), ClusterError> {
    let code = answer.get(12..14).and_then(|code| code.try_into().ok()).map(i16::from_be_bytes);
    if code == Some(0) {
        return Ok(());
    }
    let names: Vec<_> = rights.iter().map(ToString::to_string).collect();
    Err(ClusterError::refused(format!("{what} {}", names.join(", ")), format!("error {code:?}")))
}
