//! Do workers get in where Kafka wants TLS, a login and rights, and what do they say when not?

use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use pelton_tests::{Cluster, Deadline, LoadPlan, Login, Rig, RigPlan, Right, SecureKafka, trials};

use crate::refusal::Refusal;
use crate::{insist, insist_on_exact, say};

/// The one node of this module's tests; it ends with the process.
fn secure() -> Result<&'static SecureKafka, Failed> {
    use std::sync::{Mutex, PoisonError};
    static SHARED: Mutex<Option<&'static SecureKafka>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(secure) = *shared {
        return Ok(secure);
    }
    let secure: &'static SecureKafka = Box::leak(Box::new(SecureKafka::start()?));
    *shared = Some(secure);
    Ok(secure)
}

/// So soon a worker says why it can't start, and has ended.
const SOON: Duration = Duration::from_secs(10);

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for login in [Login::Scram, Login::Plain, Login::Certificate] {
        let name = format!("security::workers_count_and_hand_over::{login:?}");
        trials.push(trials::on_our_own_nodes(&name, move || counts(login)));
    }
    let refused = |name: &str, login, change: Settings, refusal: Refusal<'static>| {
        let name = format!("security::refused_at_start::{name}");
        trials::on_our_own_nodes(&name, move || refuses(login, change, &refusal))
    };
    let (scram, tls, login) = (Login::Scram, "PLT-0313", "PLT-0311");
    trials.extend([
        refused(
            "a_certificate_of_an_unknown_authority",
            scram,
            |secure| vec![("KAFKA__SSL_CA_LOCATION", text(secure.other_authority_file()))],
            Refusal { code: tls, exit: 12, says: &["certificate", "ssl.ca.location"] },
        ),
        refused(
            "a_certificate_that_has_expired",
            scram,
            |secure| vec![("BOOTSTRAP_SERVERS", secure.expired_address())],
            Refusal { code: tls, exit: 12, says: &["certificate has expired", "renewed"] },
        ),
        refused(
            "a_client_certificate_that_is_not_trusted",
            Login::Certificate,
            |secure| {
                let (certificate, key) = secure.other_client();
                vec![
                    ("KAFKA__SSL_CERTIFICATE_LOCATION", text(certificate)),
                    ("KAFKA__SSL_KEY_LOCATION", text(key)),
                ]
            },
            Refusal { code: tls, exit: 12, says: &["ssl.certificate.location"] },
        ),
        refused(
            "a_wrong_password",
            scram,
            |_| vec![("KAFKA__SASL_PASSWORD", "canary-wrong-password".to_owned())],
            Refusal { code: login, exit: 12, says: &["SCRAM-SHA-512", "sasl.password"] },
        ),
        refused(
            "a_wrong_password_sent_plainly",
            Login::Plain,
            |_| vec![("KAFKA__SASL_PASSWORD", "canary-wrong-password".to_owned())],
            Refusal { code: login, exit: 12, says: &["sasl.password"] },
        ),
        refused(
            "a_mechanism_that_is_not_enabled",
            scram,
            |_| vec![("KAFKA__SASL_MECHANISM", "SCRAM-SHA-256".to_owned())],
            Refusal { code: login, exit: 12, says: &["sasl.mechanism"] },
        ),
        refused(
            "an_authority_file_that_is_not_there",
            scram,
            |_| vec![("KAFKA__SSL_CA_LOCATION", "/nowhere/ca.pem".to_owned())],
            Refusal { code: "PLT-0314", exit: 2, says: &["ssl.ca.location"] },
        ),
        trials::on_our_own_nodes("security::refused_at_start::what_may_pass_by_itself", passing),
    ]);
    trials
}

/// What is different, given the cluster: environment variables without their prefix.
type Settings = fn(&SecureKafka) -> Vec<(&'static str, String)>;

fn text(path: PathBuf) -> String {
    path.display().to_string()
}

/// What a broker that comes and goes could be the cause of is waited for, but not for long.
fn passing() -> Result<(), Failed> {
    let secure = secure()?;
    let rig = Rig::new(secure.kafka(), secure.plan(RigPlan::default(), Login::Scram)?)?;
    let plain = secure.kafka().bootstrap_servers();
    let (protocol, nowhere) = (("PLT-0313", 12), ("PLT-0301", 8));
    let cases = [
        (
            ("KAFKA__SECURITY_PROTOCOL", "PLAINTEXT"),
            protocol,
            ["security.protocol", "SSL listener"],
        ),
        (
            ("BOOTSTRAP_SERVERS", plain),
            protocol,
            ["security.protocol", "PLAINTEXT broker listener"],
        ),
        (("KAFKA__SECURITY_PROTOCOL", "SSL"), protocol, ["security.protocol", "require SASL"]),
        (("BOOTSTRAP_SERVERS", "no.such.invalid:93"), nowhere, ["resolve", "no.such.invalid"]),
        (("BOOTSTRAP_SERVERS", "localhost:1"), nowhere, ["refused", "is bootstrap_servers right"]),
    ];
    let (mut fleet, deadline) = (rig.fleet(), Deadline::after(SOON));
    for (setting, ..) in &cases {
        fleet.launch(&[*setting])?;
    }
    for (_, (code, exit), says) in &cases {
        let ended = fleet.wait_for_end(0, deadline.left())?;
        Refusal { code, exit: *exit, says }.hold(&ended)?;
    }
    say(&format!("all within {:.1?}", SOON - deadline.left()));
    Ok(())
}

/// A worker with these settings says why it can't start, soon, and gives no secret away.
fn refuses(login: Login, change: Settings, refusal: &Refusal<'_>) -> Result<(), Failed> {
    let secure = secure()?;
    let rig = Rig::new(secure.kafka(), secure.plan(RigPlan::default(), login)?)?;
    secure.grant(&Right::of_a_counter(rig.names()))?;
    let settings = change(secure);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut fleet = rig.fleet();
    fleet.launch(&settings)?;
    let ended = fleet.wait_for_end(0, SOON)?;
    refusal.hold(&ended)?;
    say(&format!("after {:.1?}", ended.after));
    insist(!ended.log.contains("canary"), || format!("a secret is in {}", ended.log))
}

/// With the least rights: it counts, a second worker joins and leaves, nothing is lost or repeated.
fn counts(login: Login) -> Result<(), Failed> {
    let secure = secure()?;
    let rig = Rig::new(secure.kafka(), secure.plan(RigPlan::default(), login)?)?;
    secure.grant(&Right::of_a_counter(rig.names()))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(500))?;
    rig.wait_until_begun(PATIENCE)?;
    fleet.start(1)?;
    rig.wait_until_caught_up(PATIENCE)?;
    fleet.terminate_any()?;
    rig.wait_until_caught_up(PATIENCE)?;
    load.stop()?;
    insist_on_exact(&rig.finish(fleet)?)
}
