//! Do workers get in where Kafka wants TLS, a login and rights, and what do they say when not?

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use libtest_mimic::Failed;
use pelton_tests::{
    Cluster, Deadline, LoadPlan, Login, Names, Operation, Protocol, Resource, Rig, RigPlan, Right,
    SecureKafka, Stopwatch, Trial, trials, wait_for,
};

use crate::refusal::Refusal;
use crate::{insist, insist_on_exact, say};

/// The one node of this module's tests; it ends with the process.
pub(crate) fn secure() -> Result<&'static SecureKafka, Failed> {
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
const SOON: Duration = Duration::from_secs(20);

/// How long a token lives that is renewed.
const TOKEN: Duration = Duration::from_secs(6);

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for login in Login::ALL {
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
            |secure| vec![("KAFKA__SSL_CA_LOCATION", text(&secure.other_authority_file()))],
            Refusal { code: tls, exit: 13, says: &["certificate", "ssl.ca.location"] },
        ),
        refused(
            "a_certificate_that_has_expired",
            scram,
            |secure| vec![("BOOTSTRAP_SERVERS", secure.expired_address())],
            Refusal { code: tls, exit: 13, says: &["certificate has expired", "renewed"] },
        ),
        refused(
            "a_client_certificate_that_is_not_trusted",
            Login::Certificate,
            |secure| {
                let (certificate, key) = secure.other_client();
                vec![
                    ("KAFKA__SSL_CERTIFICATE_LOCATION", text(&certificate)),
                    ("KAFKA__SSL_KEY_LOCATION", text(&key)),
                ]
            },
            Refusal { code: tls, exit: 13, says: &["ssl.certificate.location"] },
        ),
        refused(
            "a_wrong_password",
            scram,
            |_| vec![("KAFKA__SASL_PASSWORD", "canary-wrong-password".to_owned())],
            Refusal { code: login, exit: 13, says: &["SCRAM-SHA-512", "sasl.password"] },
        ),
        refused(
            "a_wrong_password_sent_plainly",
            Login::Plain,
            |_| vec![("KAFKA__SASL_PASSWORD", "canary-wrong-password".to_owned())],
            Refusal { code: login, exit: 13, says: &["sasl.password"] },
        ),
        refused(
            "a_mechanism_that_is_not_enabled",
            scram,
            |_| vec![("KAFKA__SASL_MECHANISM", "SCRAM-SHA-256".to_owned())],
            Refusal { code: login, exit: 13, says: &["sasl.mechanism"] },
        ),
        refused(
            "a_token_that_has_expired",
            Login::Token,
            |secure| {
                let file = secure.new_token_file();
                let expired = secure.write_token(&file, Duration::ZERO);
                vec![(SecureKafka::TOKEN_FILE, text(&file)); usize::from(expired.is_ok())]
            },
            Refusal { code: login, exit: 13, says: &["token for counter has expired"] },
        ),
        refused(
            "an_authority_file_that_is_not_there",
            scram,
            |_| vec![("KAFKA__SSL_CA_LOCATION", "/nowhere/ca.pem".to_owned())],
            Refusal { code: "PLT-0314", exit: 2, says: &["ssl.ca.location"] },
        ),
        trials::on_our_own_nodes("security::refused_at_start::what_may_pass_by_itself", passing),
    ]);
    trials.extend([trials::on_our_own_nodes(
        "security::each_right_that_is_missing_is_named",
        each_missing,
    )]);
    for protocol in [Protocol::CooperativeSticky, Protocol::Kip848] {
        let name = format!("security::rights_taken_and_given_back::{protocol}");
        trials.push(trials::on_our_own_nodes(&name, move || taken_and_given_back(protocol)));
    }
    trials
}

/// What is different, given the cluster: environment variables without their prefix.
type Settings = fn(&SecureKafka) -> Vec<(&'static str, String)>;

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What a broker that comes and goes could be the cause of is waited for, but not for long.
fn passing() -> Result<(), Failed> {
    let secure = secure()?;
    let rig = Rig::new(secure.kafka(), RigPlan::default())?;
    let owned = |settings: &[(&str, &str)]| -> Vec<(String, String)> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let scram_at = |address: &str| -> Result<_, Failed> {
        let mut settings = secure.settings(Login::Scram)?;
        settings.push(("BOOTSTRAP_SERVERS".to_owned(), address.to_owned()));
        Ok(settings)
    };
    let (address, authority) = (secure.sasl_address(), text(&secure.authority_file()));
    let address = ("BOOTSTRAP_SERVERS", address.as_str());
    let no_login = [
        address,
        ("KAFKA__SECURITY_PROTOCOL", "SSL"),
        ("KAFKA__SSL_CA_LOCATION", authority.as_str()),
    ];
    let (protocol, nowhere) = (("PLT-0313", 13), ("PLT-0301", 8));
    let closed = ["security.protocol", "Disconnected"];
    let cases = [
        (owned(&[address]), protocol, closed),
        (owned(&no_login), protocol, closed),
        (scram_at(secure.kafka().bootstrap_servers())?, protocol, closed),
        (scram_at("no.such.invalid:93")?, nowhere, ["resolve", "no.such.invalid"]),
        (scram_at("localhost:1")?, nowhere, ["refused", "is bootstrap_servers right"]),
    ];
    let (mut fleet, deadline) = (rig.fleet(), Deadline::after(SOON));
    for (settings, ..) in &cases {
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fleet.launch(&settings.collect::<Vec<_>>())?;
    }
    for (_, (code, exit), says) in &cases {
        let ended = fleet.wait_for_end(0, deadline.left())?;
        Refusal { code, exit: *exit, says }.hold(&ended)?;
    }
    say(&format!("all within {:.1?}", SOON - deadline.left()));
    Ok(())
}

const DOCUMENTED: &str = include_str!("../../../framework/pelton/docs/security.md");

/// Runs the commands of docs/security.md, and no other.
fn grant_as_documented(secure: &SecureKafka, names: &Names) -> Result<(), Failed> {
    let commands: Vec<String> = DOCUMENTED
        .lines()
        .filter_map(|line| line.strip_prefix("kafka-acls.sh --bootstrap-server $KAFKA "))
        .map(|command| {
            command
                .replace("$NAME", SecureKafka::USER)
                .replace("$INPUT", &names.input)
                .replace("$OUTPUT", &names.output)
                .replace("$CHANGELOG", &names.changelog())
                .replace("$GROUP", &names.group)
        })
        .collect();
    insist(commands.len() == 4, || format!("{commands:?}"))?;
    let grant = |command: &String| -> Result<(), Failed> {
        let arguments: Vec<_> = command.split(' ').collect();
        let said = secure.kafka().tool("org.apache.kafka.tools.AclCommand", &arguments)?;
        insist(said.status.success(), || format!("{command}: {said:?}"))
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = commands.iter().map(|command| scope.spawn(|| grant(command))).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err("a panic".into())))
    })
}

/// Each right in turn is missing when a worker starts; it says which one, and how to grant it.
/// When it has been granted, the worker starts.
fn each_missing() -> Result<(), Failed> {
    let secure = secure()?;
    for at in 0..Right::of_a_counter(&Names::default()).len() {
        let rig = Rig::new(secure.kafka(), secure.plan(one_partition(), Login::Scram)?)?;
        let mut rights = Right::of_a_counter(rig.names());
        let missing = rights.remove(at);
        secure.grant(&rights)?;
        let mut fleet = rig.fleet();
        fleet.launch(&[])?;
        if missing.operation() == Operation::DescribeConfigs {
            // It does without: it can't see whether its changelog is compacted, and says so.
            let says = |log: &str| log.contains(" WARN ") && log.contains("DescribeConfigs");
            let log = || fleet.workers()[0].log();
            wait_for("a word on the settings", SOON, || says(&log()).then_some(()))?;
            fleet.terminate_all()?;
            continue;
        }
        let ended = fleet.wait_for_end(0, SOON)?;
        let command = format!("--add --allow-principal User:NAME {}", missing.as_arguments());
        let says = &[missing.to_string(), command];
        let says: Vec<_> = says.iter().map(String::as_str).collect();
        Refusal { code: "PLT-0312", exit: 14, says: &says }.hold(&ended)?;
        say(&format!("after {:.1?}", ended.after));
        secure.grant(&[missing])?;
        fleet.start(1)?;
        fleet.terminate_all()?;
    }
    Ok(())
}

/// A right goes missing while a worker counts: it says so, lives on, and goes on when the right is
/// back. Nothing is lost; repeated is only what follows from a session that could not be kept.
fn taken_and_given_back(protocol: Protocol) -> Result<(), Failed> {
    let secure = secure()?;
    let plan = RigPlan { protocol, ..one_partition() };
    let rig = Rig::new(secure.kafka(), secure.plan(plan, Login::Scram)?)?;
    let rights = Right::of_a_counter(rig.names());
    secure.grant(&rights)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(100))?;
    rig.wait_until_begun(PATIENCE)?;
    let worker = &fleet.workers()[0];
    let needed = |right: &&Right| matches!(right.operation(), Operation::Read | Operation::Write);
    let changelog_read = Right::new(Operation::Read, Resource::Topic, &rig.names().changelog());
    // That of the changelog is needed only for a restore.
    for taken in rights.iter().filter(needed).filter(|right| **right != changelog_read) {
        secure.revoke(std::slice::from_ref(taken))?;
        let name = taken.to_string();
        wait_for("a word on the right that is gone", SOON, || {
            let ready = worker.ask("/readyz").ok()?;
            let metrics = worker.ask("/metrics").ok()?;
            let counted = metrics.metric("pelton_refusals", &[]) == Some(1.0);
            let live = worker.ask("/livez").ok()?;
            (live.status == 200 && ready.body.contains(&name) && counted).then_some(())
        })?;
        let log = worker.log();
        let is_error = |line: &&str| line.contains("ERROR") && line.contains(&name);
        let command = |line: &str| line.contains(&taken.as_arguments());
        insist(log.lines().filter(is_error).filter(|line| command(line)).count() == 1, || {
            log.clone()
        })?;
        let watch = Stopwatch::start();
        secure.grant(std::slice::from_ref(taken))?;
        rig.wait_until_caught_up(PATIENCE)?;
        say(&format!("{name}: caught up {:.1?} after it was granted again", watch.elapsed()));
        wait_for("nothing that is refused", PATIENCE, || {
            (!worker.ask("/readyz").ok()?.body.contains(&name)).then_some(())
        })?;
    }
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    insist(outcome.is_clean(), || outcome.to_string())
}

fn one_partition() -> RigPlan {
    RigPlan { partitions: 1, slow_one_in: 0, ..RigPlan::default() }
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
    match login {
        Login::Scram => grant_as_documented(secure, rig.names())?,
        Login::Plain | Login::Certificate | Login::Token => {
            secure.grant(&Right::of_a_counter(rig.names()))?;
        }
    }
    let token = rig.plan().settings.iter().find(|(name, _)| name == SecureKafka::TOKEN_FILE);
    let renewal = token.map(|(_, file)| renew_tokens(secure, file.into())).transpose()?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(500))?;
    rig.wait_until_begun(PATIENCE)?;
    fleet.start(1)?;
    let outlived = Stopwatch::start();
    rig.wait_until_caught_up(PATIENCE)?;
    if renewal.is_some() {
        // Nobody's first token is good for anything any more.
        let over = || (outlived.elapsed() > TOKEN * 3 / 2).then_some(());
        wait_for("the end of every first token", PATIENCE, over)?;
        rig.wait_until_caught_up(PATIENCE)?;
    }
    fleet.terminate_any()?;
    rig.wait_until_caught_up(PATIENCE)?;
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    drop(renewal);
    insist_on_exact(&outcome)
}

/// Keeps the token fresh, until dropped; each lives shorter than the run.
fn renew_tokens(secure: &'static SecureKafka, file: PathBuf) -> Result<mpsc::Sender<()>, Failed> {
    let write = move || secure.write_token(&file, TOKEN);
    write()?;
    let (renewal, over) = mpsc::channel();
    std::thread::spawn(move || {
        while over.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _the_run_will_show_it = write();
        }
    });
    Ok(renewal)
}
