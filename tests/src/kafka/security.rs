//! How is a cluster run that lets in only who it knows, and lets them do only what they may?

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::kafka::certificates::Certificates;
use crate::kafka::node::{Address, Besides, random, uuid};
use crate::kafka::nodes::Nodes;
use crate::kafka::process::{output, tail};
use crate::kafka::rights::{self, Right};
use crate::kafka::{Distribution, KafkaCluster, ports};
use crate::{ClusterError, RigPlan};

/// One node that speaks TLS and asks who is there, for workers; beside it a plain listener whose
/// users may do everything, for the test itself.
///
/// Its certificates are made anew, signed by an authority of its own. It knows one user,
/// [`USER`](Self::USER), by password ([`Login::Scram`], [`Login::Plain`]), by certificate
/// ([`Login::Certificate`]) and by token ([`Login::Token`]). A user may do only what was granted.
/// All calls block, and may come from any thread.
///
/// ```no_run
/// use pelton_tests::{Login, Right, Rig, RigPlan, SecureKafka};
///
/// let secure = SecureKafka::start()?;
/// let plan = secure.plan(RigPlan::default(), Login::Scram)?;
/// let rig = Rig::new(secure.kafka(), plan)?;
/// secure.grant(&Right::of_a_counter(rig.names()))?;
/// rig.fleet().start(1)?;
/// # Ok::<(), pelton_tests::ClusterError>(())
/// ```
#[derive(Debug)]
pub struct SecureKafka {
    kafka: KafkaCluster,
    listeners: Listeners,
    certificates: Certificates,
    folder: PathBuf,
}

/// How a worker says who it is.
///
/// ```
/// use pelton_tests::Login;
/// assert_eq!(Login::ALL.len(), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// `SASL_SSL` with SCRAM-SHA-512: the password is never sent.
    Scram,
    /// `SASL_SSL` with PLAIN: the password is sent, within TLS.
    Plain,
    /// `SSL`: the client shows a certificate.
    Certificate,
    /// `SASL_SSL` with OAUTHBEARER: the client shows a token, from a file.
    Token,
}

impl Login {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scram, Self::Plain, Self::Certificate, Self::Token];
}

#[derive(Clone, Copy, Debug)]
struct Listeners {
    /// For the test: everything is allowed.
    plain: u16,
    sasl: u16,
    /// TLS, and clients show certificates.
    mutual: u16,
    /// As `sasl`, with a certificate that has expired.
    expired: u16,
}

impl SecureKafka {
    /// Who workers are.
    pub const USER: &'static str = "counter";
    /// The user's password with SCRAM, until [`set_scram_password`](Self::set_scram_password).
    pub const PASSWORD: &'static str = "canary-scram-7f3a91";
    /// The user's password with PLAIN.
    pub const PLAIN_PASSWORD: &'static str = "canary-plain-52c08e";
    /// The setting that names a token's file, as an environment variable without its prefix.
    pub const TOKEN_FILE: &'static str = "OAUTH_TOKEN_FILE";

    /// Starts the node (about 5 s) and waits until it serves.
    ///
    /// # Errors
    ///
    /// As [`KafkaCluster::start`].
    pub fn start() -> Result<Self, ClusterError> {
        let distribution = Distribution::get(&|_| {})?;
        let folder = distribution.folder().join("running").join(format!("{:016x}", random()));
        let certificates = Certificates::make(&folder.join("certificates"), Self::USER)?;
        let first_records = known_users(distribution, &folder)?;
        let chosen = Mutex::new(None);
        let besides = |address: Address| {
            let ports = ports::free(3);
            let port = |at: usize| ports.get(at).copied().unwrap_or(0);
            let (sasl, mutual, expired) = (port(0), port(1), port(2));
            let listeners = Listeners { plain: address.port, sasl, mutual, expired };
            *chosen.lock().unwrap_or_else(PoisonError::into_inner) = Some(listeners);
            Besides {
                settings: settings(address, listeners, &certificates),
                first_records: Some(first_records.clone()),
            }
        };
        let nodes = Nodes::start_one_with(&folder, distribution, &besides)?;
        let listeners = chosen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let listeners = listeners
            .ok_or_else(|| ClusterError::refused("the secure node", "has no listeners"))?;
        Ok(Self { kafka: KafkaCluster::of(nodes), listeners, certificates, folder })
    }

    /// The cluster as the test itself sees it: without TLS or login, and with every right.
    #[must_use]
    pub fn kafka(&self) -> &KafkaCluster {
        &self.kafka
    }

    /// Where workers log in by password or token: `localhost:port`.
    #[must_use]
    pub fn sasl_address(&self) -> String {
        format!("localhost:{}", self.listeners.sasl)
    }

    /// As [`sasl_address`](Self::sasl_address), with a server certificate that expired in 2021.
    #[must_use]
    pub fn expired_address(&self) -> String {
        format!("localhost:{}", self.listeners.expired)
    }

    /// The certificate of the authority that the node's certificates are signed by.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.certificates.authority_file()
    }

    /// The certificate of another authority.
    #[must_use]
    pub fn other_authority_file(&self) -> PathBuf {
        self.certificates.other_authority_file()
    }

    /// A client's certificate and key that the node does not accept.
    #[must_use]
    pub fn other_client(&self) -> (PathBuf, PathBuf) {
        let name = "other-client";
        (self.certificates.file(name), self.certificates.key_file(name))
    }

    /// A folder for the test's files; it goes with the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a worker must be told to get in: environment variables without their prefix.
    ///
    /// # Errors
    ///
    /// If the token's file can't be written.
    pub fn settings(&self, login: Login) -> Result<Vec<(String, String)>, ClusterError> {
        let path = |path: PathBuf| path.display().to_string();
        let mut settings = vec![
            ("BOOTSTRAP_SERVERS", self.sasl_address()),
            ("KAFKA__SECURITY_PROTOCOL", "SASL_SSL".to_owned()),
            ("KAFKA__SSL_CA_LOCATION", path(self.authority_file())),
        ];
        match login {
            Login::Scram => settings.extend([
                ("KAFKA__SASL_MECHANISM", "SCRAM-SHA-512".to_owned()),
                ("KAFKA__SASL_USERNAME", Self::USER.to_owned()),
                ("KAFKA__SASL_PASSWORD", Self::PASSWORD.to_owned()),
            ]),
            Login::Plain => settings.extend([
                ("KAFKA__SASL_MECHANISM", "PLAIN".to_owned()),
                ("KAFKA__SASL_USERNAME", Self::USER.to_owned()),
                ("KAFKA__SASL_PASSWORD", Self::PLAIN_PASSWORD.to_owned()),
            ]),
            Login::Certificate => {
                settings[0].1 = format!("localhost:{}", self.listeners.mutual);
                settings[1].1 = "SSL".to_owned();
                settings.extend([
                    ("KAFKA__SSL_CERTIFICATE_LOCATION", path(self.certificates.file("client"))),
                    ("KAFKA__SSL_KEY_LOCATION", path(self.certificates.key_file("client"))),
                ]);
            }
            Login::Token => {
                let file = self.new_token_file();
                self.write_token(&file, Duration::from_secs(3_600))?;
                settings.extend([
                    ("KAFKA__SASL_MECHANISM", "OAUTHBEARER".to_owned()),
                    (Self::TOKEN_FILE, path(file)),
                ]);
            }
        }
        Ok(settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A place for a token of [`Login::Token`] that nobody else uses.
    #[must_use]
    pub fn new_token_file(&self) -> PathBuf {
        self.folder.join(KafkaCluster::unique("token"))
    }

    /// Puts a fresh token into a file, whole at any moment. The node ends connections whose token
    /// has expired.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn write_token(&self, file: &Path, lifetime: Duration) -> Result<(), ClusterError> {
        let part = file.with_extension("part");
        fs::write(&part, unsecured_token(Self::USER, lifetime))
            .and_then(|()| fs::rename(&part, file))
            .map_err(ClusterError::io("the token's file"))
    }

    /// A run's plan with what its workers need to get in.
    ///
    /// # Errors
    ///
    /// As [`settings`](Self::settings).
    pub fn plan(&self, mut plan: RigPlan, login: Login) -> Result<RigPlan, ClusterError> {
        plan.settings.extend(self.settings(login)?);
        Ok(plan)
    }

    /// Gives rights to [`USER`](Self::USER).
    ///
    /// # Errors
    ///
    /// If the cluster does not.
    pub fn grant(&self, rights: &[Right]) -> Result<(), ClusterError> {
        rights::grant(self.listeners.plain, Self::USER, rights)
    }

    /// Takes rights from [`USER`](Self::USER).
    ///
    /// # Errors
    ///
    /// If the cluster does not.
    pub fn revoke(&self, rights: &[Right]) -> Result<(), ClusterError> {
        rights::revoke(self.listeners.plain, Self::USER, rights)
    }

    /// Gives [`USER`](Self::USER) another password (SCRAM); those who are in stay in.
    ///
    /// # Errors
    ///
    /// If the cluster does not.
    pub fn set_scram_password(&self, password: &str) -> Result<(), ClusterError> {
        let password = format!("SCRAM-SHA-512=[iterations=4096,password={password}]");
        let arguments = [
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            Self::USER,
            "--add-config",
            &password,
        ];
        let said = self.kafka.tool("kafka.admin.ConfigCommand", &arguments)?;
        if said.status.success() {
            return Ok(());
        }
        let text = [said.stdout, said.stderr].concat();
        let reason = tail(&String::from_utf8_lossy(&text), 5);
        Err(ClusterError::refused("setting a password", reason))
    }
}

/// A token that says who it is for and until when, without a signature: what Kafka takes where
/// nothing else is configured, for tests.
fn unsecured_token(user: &str, lifetime: Duration) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let now = now();
    let until = now + lifetime.as_secs();
    let claims = format!(r#"{{"sub":"{user}","iat":{now},"exp":{until}}}"#);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

/// Tokens say when they expire by the wall clock.
#[expect(clippy::disallowed_methods, reason = "a token's lifetime is wall-clock time")]
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// First records of a metadata log in which the user is known (SCRAM).
fn known_users(distribution: &Distribution, folder: &Path) -> Result<PathBuf, ClusterError> {
    let io = |error| ClusterError::Io { what: "formatting with users".to_owned(), error };
    let data = folder.join("format");
    fs::create_dir_all(&data).map_err(io)?;
    let settings = format!(
        "process.roles=broker,controller\nnode.id=1\nlog.dirs={}\n\
         controller.quorum.voters=1@127.0.0.1:1\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1\n",
        data.display()
    );
    let file = folder.join("format.properties");
    fs::write(&file, settings).map_err(io)?;
    let mut format = distribution.java(&[]);
    format.args(["kafka.tools.StorageTool", "format", "-t", &uuid(), "-c"]).arg(&file);
    let (user, password) = (SecureKafka::USER, SecureKafka::PASSWORD);
    let user = format!("SCRAM-SHA-512=[name={user},password={password},iterations=4096]");
    format.args(["--add-scram", &user]);
    let said = output("running kafka.tools.StorageTool", format, Duration::from_secs(120))?;
    let made = data.join("bootstrap.checkpoint");
    if made.exists() {
        return Ok(made);
    }
    let text = [said.stdout, said.stderr].concat();
    let reason = tail(&String::from_utf8_lossy(&text), 5);
    Err(ClusterError::refused("kafka.tools.StorageTool format", reason))
}

/// What the node's settings say besides.
fn settings(address: Address, listeners: Listeners, certificates: &Certificates) -> String {
    let Address { port, controller_port, .. } = address;
    let Listeners { sasl, mutual, expired, .. } = listeners;
    let all = format!(
        "PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl},MUTUAL://127.0.0.1:{mutual},\
         EXPIRED://127.0.0.1:{expired}"
    );
    let advertised = all.replace("SASL://127.0.0.1", "SASL://localhost");
    let modules = "org.apache.kafka.common.security";
    let (user, password) = (SecureKafka::USER, SecureKafka::PLAIN_PASSWORD);
    let mut text = format!(
        "listeners={all},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL,EXPIRED:SASL_SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.keystore.type=PEM
ssl.truststore.type=PEM
ssl.truststore.location={}
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT
",
        certificates.authority_file().display(),
    );
    for (listener, certificate) in
        [("sasl", "server"), ("mutual", "server"), ("expired", "expired")]
    {
        let store = certificates.key_store(certificate);
        text += &format!("listener.name.{listener}.ssl.keystore.location={}\n", store.display());
    }
    for listener in ["sasl", "expired"] {
        let of = format!("listener.name.{listener}");
        text += &format!(
            "{of}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
{of}.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_{user}=\"{password}\";
{of}.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
{of}.oauthbearer.connections.max.reauth.ms=3600000
{of}.oauthbearer.sasl.jaas.config={modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
"
        );
    }
    text
}
