//! Is a secret ever seen? A canary in every setting that may hold one, everything logged that can
//! be, and everything read that a worker says: none sings.

use std::time::Duration;

use libtest_mimic::Failed;
use nix::sys::signal::Signal;
use pelton_testkit::EmbeddedCluster;
use pelton_tests::{Cluster, Ended, Login, Rig, RigPlan, Right, SecureKafka, Trial, trials};

use crate::security::secure;
use crate::{embedded, insist, login};

const PATIENCE: Duration = Duration::from_secs(60);

/// What every canary here begins with; the users' passwords of [`SecureKafka`] do, too.
const CANARY: &str = "canary-";

/// Secrets that a login by password does not look at; they are in the client's settings all the
/// same, and so in whatever it prints of them.
const UNUSED: &[(&str, &str)] = &[
    ("KAFKA__SSL_KEY_PASSWORD", "canary-key-password"),
    ("KAFKA__SSL_KEYSTORE_PASSWORD", "canary-keystore-password"),
    ("KAFKA__SASL_OAUTHBEARER_CONFIG", "canary-oauthbearer-config"),
    ("KAFKA__SASL_KERBEROS_KINIT_CMD", "true canary-kinit"),
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trials::on_our_own_nodes("canaries::no_secret_is_seen_of_a_worker_that_works", works),
        trials::on_our_own_nodes("canaries::no_secret_is_seen_of_one_that_may_not_in", kept_out),
        Trial::new("canaries::no_secret_is_seen_of_one_that_can_not_start", can_not_start),
    ]
}

/// Everything is logged, librdkafka's own words too.
fn loud(plan: RigPlan) -> RigPlan {
    let plan = plan.with("LOG__FILTER", "trace").with("KAFKA__DEBUG", "all");
    UNUSED.iter().fold(plan, |plan, (name, value)| plan.with(name, value))
}

/// Logs in with a password that stands in a file, counts, and answers at its endpoint.
fn works() -> Result<(), Failed> {
    let secure = secure()?;
    let mut plan = loud(secure.plan(RigPlan::default(), Login::Scram)?);
    plan.settings.retain(|(name, _)| name != "KAFKA__SASL_PASSWORD");
    let file = secure.folder().join("password");
    std::fs::write(&file, format!("{}\n", SecureKafka::PASSWORD))?;
    let plan = plan.with("KAFKA__SASL_PASSWORD__FILE", &file.display().to_string());
    let rig = Rig::new(secure.kafka(), plan)?;
    secure.grant(&Right::of_a_counter(rig.names()))?;
    secure.kafka().produce(&rig.names().input, &[login("alice", 0), login("bob", 1)])?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    rig.wait_until_handled(PATIENCE)?;
    for path in ["/metrics", "/partitions", "/livez", "/readyz", "/startupz", "/", "/config"] {
        let answer = fleet.workers()[0].ask(path)?;
        insist(!answer.body.contains(CANARY), || format!("{path}: {}", answer.body))?;
    }
    // The log is as loud as was asked for, or its silence means nothing.
    let log = fleet.workers()[0].log();
    let loud = |line: &str| line.contains("librdkafka") && line.contains("SASL");
    insist(log.lines().any(loud), || "librdkafka says nothing of its login".to_owned())?;
    insist(log.contains("TRACE"), || "nothing is traced".to_owned())?;
    fleet.workers()[0].signal(Signal::SIGTERM)?;
    no_canary_in(&fleet.wait_for_end(0, PATIENCE)?)
}

/// The password is a wrong one: whoever complains of it must not repeat it.
fn kept_out() -> Result<(), Failed> {
    let secure = secure()?;
    let mut plan = loud(secure.plan(RigPlan::default(), Login::Scram)?);
    plan.settings.retain(|(name, _)| name != "KAFKA__SASL_PASSWORD");
    let plan = plan.with("KAFKA__SASL_PASSWORD", "canary-wrong-password");
    let rig = Rig::new(secure.kafka(), plan)?;
    let mut fleet = rig.fleet();
    fleet.launch(&[])?;
    let ended = fleet.wait_for_end(0, PATIENCE)?;
    let complains = ended.log.to_ascii_lowercase().contains("authentication failed");
    insist(complains && !ended.status.success(), || ended.log.clone())?;
    no_canary_in(&ended)
}

/// What should be a key or a certificate is none: the client can't be made.
fn can_not_start() -> Result<(), Failed> {
    let cluster = embedded()?;
    for name in ["KAFKA__SSL_KEY_PEM", "KAFKA__SSL_CA_PEM", "KAFKA__SSL_CERTIFICATE_PEM"] {
        let plan = RigPlan::default()
            .with("LOG__FILTER", "trace")
            .with("KAFKA__DEBUG", "all")
            .with("KAFKA__SECURITY_PROTOCOL", "ssl")
            .with(name, "canary-pem");
        let rig: Rig<'_, EmbeddedCluster> = Rig::new(&cluster, plan)?;
        let mut fleet = rig.fleet();
        fleet.launch(&[])?;
        let ended = fleet.wait_for_end(0, PATIENCE)?;
        insist(!ended.status.success(), || format!("{name}: {}", ended.log))?;
        insist(ended.reasons().len() == 1, || format!("{name}: {:?}", ended.reasons()))?;
        no_canary_in(&ended)?;
    }
    Ok(())
}

/// Neither its log nor what it left behind for Kubernetes.
fn no_canary_in(ended: &Ended) -> Result<(), Failed> {
    for text in [&ended.log, &ended.termination_log] {
        let line = text.lines().find(|line| line.contains(CANARY));
        insist(line.is_none(), || line.unwrap_or_default().to_owned())?;
    }
    Ok(())
}
