//! Real logs, compared with counts made by another program.
//!
//! They belong to others and are not in this repository: `PELTON_TEST_DATA` names their folder.
//! Where it is unset, every test here is reported as ignored.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use load_generator::{Format, Login, SendOptions, Tally, open, send_all};
use pelton_testkit::{EmbeddedCluster, murmur2, partition_for_key};

#[path = "support/reader.rs"]
mod reader;

type Test = fn(&Path) -> Result<(), Failed>;

fn main() -> ExitCode {
    let tests: [(&'static str, Test); 5] = [
        ("the_auth_log_gives_every_users_true_counts_and_order", auth_log),
        ("the_derived_json_lines_give_the_same", derived_json_lines),
        ("a_log_without_logins_is_skipped_line_by_line", log_without_logins),
        ("keys_hash_as_javas_do", key_hashes),
        ("the_producer_chooses_javas_partitions", producers_partitions),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::ignorable_test(name, move || match std::env::var_os("PELTON_TEST_DATA") {
            None => Ok(Completion::ignored_with("PELTON_TEST_DATA is unset: no real logs here")),
            Some(folder) => test(&PathBuf::from(folder)).map(|()| Completion::Completed),
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn auth_log(data: &Path) -> Result<(), Failed> {
    let mut log = open(&data.join("elastic-auth.log.gz"), Format::Sshd { year: 2017 })?;
    let tally = tally(&log.by_ref().collect::<Result<Vec<_>, _>>()?);
    assert_eq!((tally.logins(), tally.successes()), (1_268, 226));
    // 7,121 lines; 943 of them are logins, some of them several times.
    assert_eq!(log.skipped(), 7_121 - 943);
    assert_eq!(shown(&tally), truth(data)?);
    Ok(())
}

fn derived_json_lines(data: &Path) -> Result<(), Failed> {
    let logins = open(&data.join("elastic-logins.jsonl.gz"), Format::Json)?;
    assert_eq!(shown(&tally(&logins.collect::<Result<Vec<_>, _>>()?)), truth(data)?);
    Ok(())
}

fn log_without_logins(data: &Path) -> Result<(), Failed> {
    let mut log = open(&data.join("secrepo-auth-excerpt.log.gz"), Format::Sshd { year: 2014 })?;
    assert_eq!(log.by_ref().count(), 0);
    assert_eq!(log.skipped(), 10_567);
    Ok(())
}

fn key_hashes(data: &Path) -> Result<(), Failed> {
    let (mut keys, partitions) = (0, [3, 8, 12]);
    for file in ["elastic-auth-user", "elastic-auth-src_ip", "uqo-sessions-src_ip"] {
        for (key, hash, chosen) in vectors(data, file)? {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key:?}");
            assert_eq!(
                partitions.map(|many| partition_for_key(key.as_bytes(), many)),
                chosen,
                "{key:?}"
            );
            keys += 1;
        }
    }
    assert!(keys > 1_000, "{keys} keys");
    Ok(())
}

/// Every user's login, sent to topics of 3, 8 and 12 partitions, is found where Java's client
/// would have put it.
fn producers_partitions(data: &Path) -> Result<(), Failed> {
    let vectors = vectors(data, "elastic-auth-user")?;
    let cluster = EmbeddedCluster::start(1)?;
    for (index, many) in [3, 8, 12].into_iter().enumerate() {
        let topic = format!("logins-{many}");
        cluster.create_topic(&topic, many)?;
        let logins = vectors.iter().map(|(user, ..)| {
            let json = serde_json::json!({ "user": user, "status": "success", "ip": "x", "at": "2017-01-01T00:00:00Z" });
            Ok(Login::from_json(json.to_string().as_bytes()).unwrap())
        });
        let options = SendOptions::new(cluster.bootstrap_servers(), &topic);
        send_all(logins, &options, |_| ControlFlow::Continue(()))?;
        let records = reader::read(cluster.bootstrap_servers(), &topic, vectors.len());
        let found: BTreeMap<_, _> = records.iter().map(|r| (r.key.clone(), r.partition)).collect();
        for (user, _, chosen) in &vectors {
            assert_eq!(found[user], chosen[index], "{user:?} of {many}");
        }
    }
    Ok(())
}

fn tally(logins: &[Login]) -> Tally {
    let mut tally = Tally::default();
    (0..).zip(logins).for_each(|(seq, login)| tally.add(seq, login));
    tally
}

/// User → events, successes, failures, order digest.
type Counts = BTreeMap<String, [String; 4]>;

fn shown(tally: &Tally) -> Counts {
    let row = |user: &load_generator::UserTally| {
        let events = user.successes + user.failures;
        let [events, successes, failures] =
            [events, user.successes, user.failures].map(|n| n.to_string());
        [events, successes, failures, user.order.to_string()]
    };
    tally.users().iter().map(|(name, user)| (name.clone(), row(user))).collect()
}

fn truth(data: &Path) -> Result<Counts, Failed> {
    let table = std::fs::read_to_string(data.join("truth-elastic-auth/by_user.tsv"))?;
    let rows = table.lines().skip(1).map(|line| {
        let column: Vec<_> = line.split('\t').map(str::to_owned).collect();
        let row = [&column[1], &column[2], &column[3], &column[11]].map(Clone::clone);
        (column[0].clone(), row)
    });
    Ok(rows.collect())
}

/// Key, hash, partition of 3, of 8, of 12; from Java's own client.
fn vectors(data: &Path, name: &str) -> Result<Vec<(String, i32, [i32; 3])>, Failed> {
    let table = std::fs::read_to_string(data.join(format!("vectors/partition-{name}.tsv")))?;
    let rows = table.lines().skip(1).map(|line| {
        let column: Vec<_> = line.split('\t').collect();
        let number = |at: usize| column[at].parse::<i32>();
        Ok((column[0].to_owned(), number(1)?, [number(2)?, number(3)?, number(4)?]))
    });
    rows.collect::<Result<_, std::num::ParseIntError>>().map_err(Failed::from)
}
