//! Do the clusters under the whole-system tests behave as those tests rely on?

use std::time::Duration;

use libtest_mimic::Failed;
use pelton_testkit::scenarios::{SESSION, Verdict, play_on_model};
use pelton_testkit::{EmbeddedCluster, partition_for_key};
use pelton_tests::{
    Cluster, KafkaCluster, NewRecord, Trial, Way, Weather, scenarios, trials, wait_for,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Places for tests: what plays scenarios waits for sessions, and both cores are busy for half of the
/// time.
const AT_ONCE: usize = 4;

fn main() -> std::process::ExitCode {
    scenarios::run_if_asked();
    let trials = vec![
        Trial::new("the_model_answers_the_scenarios_as_kafka_does", || {
            held(&play_on_model(&scenarios::chosen()))
        }),
        Trial::new("the_embedded_cluster_answers_the_scenarios_as_kafka_does", || {
            let cluster = EmbeddedCluster::start(1)?;
            cluster.group_heartbeat(Duration::from_millis(300));
            cluster.group_session_timeout(SESSION);
            held(&scenarios::play_on_embedded(cluster)?)
        })
        .heavy(),
        trials::on_kafka("kafka_answers_the_scenarios", || {
            held(&scenarios::play_on_kafka(KafkaCluster::shared(1)?)?)
        })
        .heavy(),
        Trial::new("embedded_records_come_back_as_they_were_sent", || {
            let cluster = EmbeddedCluster::start(1)?;
            cluster.create_topic("logins", 3)?;
            records_come_back_as_they_were_sent(&cluster, "logins")
        }),
        Trial::new("embedded_commits_come_back_with_their_metadata", || {
            let cluster = EmbeddedCluster::start(1)?;
            cluster.create_topic("logins", 3)?;
            commits_come_back_with_their_metadata(&cluster, "logins", "group")
        }),
        trials::on_kafka("kafka_records_come_back_as_they_were_sent", || {
            let (kafka, topic) = topic_on_one_node()?;
            records_come_back_as_they_were_sent(kafka, &topic)
        }),
        trials::on_kafka("kafka_commits_come_back_with_their_metadata", || {
            let (kafka, topic) = topic_on_one_node()?;
            commits_come_back_with_their_metadata(kafka, &topic, &KafkaCluster::unique("group"))
        }),
        trials::on_kafka("topics_grow_shrink_and_go", topics_grow_shrink_and_go),
        trials::on_kafka("kafkas_own_tools_run", kafkas_own_tools_run),
        trials::on_our_own_nodes("a_partition_gets_a_new_leader_when_its_node_is_killed", failover),
        trials::on_our_own_nodes("who_comes_through_a_proxy_meets_no_node_directly", proxied),
        trials::on_our_own_nodes("a_frozen_node_loses_its_partitions_and_comes_back", freeze),
    ];
    trials::run(trials, AT_ONCE)
}

/// Is everything as Kafka answers, or as listed?
fn held(verdict: &Verdict) -> Result<(), Failed> {
    if verdict.is_clean() { Ok(()) } else { Err(verdict.to_string().into()) }
}

fn topic_on_one_node() -> Result<(&'static KafkaCluster, String), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let topic = KafkaCluster::unique("logins");
    kafka.create_topic(&topic, 3)?;
    Ok((kafka, topic))
}

fn records_come_back_as_they_were_sent(cluster: &dyn Cluster, topic: &str) -> Result<(), Failed> {
    assert!(cluster.create_topic(topic, 3).is_err(), "it exists");
    let mut records = vec![
        NewRecord::new("admin", "in").header("seq", "0"),
        NewRecord { key: Some(b"admin".to_vec()), ..NewRecord::default() },
        NewRecord { timestamp: Some(1_700_000_000_000), ..NewRecord::new("", "") }.to_partition(2),
    ];
    records.extend((0..500).map(|n| NewRecord::new(format!("user-{n}"), "in")));
    cluster.produce(topic, &records)?;

    let stored = cluster.read_topic(topic)?;
    assert_eq!(stored.len(), 503);
    let admins: Vec<_> =
        stored.iter().filter(|record| record.key.as_deref() == Some(b"admin")).collect();
    assert_eq!(admins[0].header("seq"), Some(&b"0"[..]));
    assert_eq!(admins[0].partition, partition_for_key(b"admin", 3));
    assert_eq!(admins[1].value, None, "a tombstone");
    assert!(admins[0].offset < admins[1].offset, "in the order in which they were sent");
    let placed = stored.iter().find(|record| record.timestamp == Some(1_700_000_000_000));
    assert_eq!(placed.map(|record| record.partition), Some(2));
    for record in &stored[3..] {
        if let Some(key) = record.key.as_deref().filter(|key| !key.is_empty()) {
            assert_eq!(record.partition, partition_for_key(key, 3), "as Java's client does");
        }
    }
    let ends: i64 = cluster.ends(topic)?.iter().sum();
    assert_eq!(ends, 503);
    Ok(())
}

fn commits_come_back_with_their_metadata(
    cluster: &dyn Cluster,
    topic: &str,
    group: &str,
) -> Result<(), Failed> {
    assert!(cluster.committed(group, topic)?.iter().all(|partition| partition.offset.is_none()));
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", group)
        .create()?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 1, Offset::Offset(42))?;
    offsets.elements_for_topic(topic)[0].set_metadata("from a test");
    // A group that is not in use takes offsets from anyone.
    wait_for("a commit", Duration::from_secs(20), || {
        member.commit(&offsets, CommitMode::Sync).ok()
    })?;
    let committed = cluster.committed(group, topic)?;
    assert_eq!(committed[1].offset, Some(42));
    assert_eq!(committed[1].metadata, "from a test");
    assert_eq!(committed[0].offset, None);
    Ok(())
}

fn topics_grow_shrink_and_go() -> Result<(), Failed> {
    let (kafka, topic) = topic_on_one_node()?;
    kafka.produce(&topic, &vec![NewRecord::new("admin", "in"); 10])?;
    kafka.add_partitions(&topic, 5)?;
    wait_for("five partitions", Duration::from_secs(20), || {
        (kafka.ends(&topic).ok()?.len() == 5).then_some(())
    })?;
    let partition = partition_for_key(b"admin", 3);
    kafka.delete_records(&topic, partition, 4)?;
    let left = kafka.read_topic(&topic)?;
    assert_eq!(left.first().map(|record| record.offset), Some(4));
    assert_eq!(left.len(), 6);
    kafka.delete_topic(&topic)?;
    wait_for("the topic's end", Duration::from_secs(20), || kafka.ends(&topic).err())?;
    let unknown = kafka.create_topic_with("t", 1, -1, &[("cleanup.polcy", "compact")]);
    assert!(unknown.is_err(), "no such setting");
    Ok(())
}

fn kafkas_own_tools_run() -> Result<(), Failed> {
    let (kafka, topic) = topic_on_one_node()?;
    let class = pelton_tests::tool_class("topics").ok_or("no such tool")?;
    let said = kafka.tool(class, &["--describe", "--topic", &topic])?;
    let text = String::from_utf8(said.stdout)?;
    assert!(said.status.success() && text.contains("PartitionCount: 3"), "{text}");
    let said = kafka.tool(class, &["--describe", "--topic", "missing"])?;
    assert!(!said.status.success(), "a tool's failure is seen");
    Ok(())
}

/// Kill the leader: another takes over, nothing is lost, and the killed one comes back in sync.
fn failover() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(3)?;
    let topic = KafkaCluster::unique("logins");
    kafka.create_topic(&topic, 1)?;
    kafka.produce(&topic, &[NewRecord::new("admin", "before")])?;
    let killed = kafka.leader_of(&topic, 0)?;
    kafka.kill(killed)?;
    let leader = kafka.wait_for_new_leader(&topic, 0, killed)?;
    assert_ne!(leader, killed);
    kafka.produce(&topic, &[NewRecord::new("admin", "after")])?;
    assert_eq!(kafka.read_topic(&topic)?.len(), 2);
    assert!(kafka.kill(killed).is_err(), "it does not run");
    kafka.start_node(killed)?;
    kafka.wait_until_ready()?;
    kafka.wait_until_in_sync(&topic)?;
    Ok(())
}

/// SIGSTOP is what a long pause of the JVM or its machine looks like.
fn freeze() -> Result<(), Failed> {
    let kafka = KafkaCluster::start(3)?;
    kafka.create_topic("logins", 1)?;
    let frozen = kafka.leader_of("logins", 0)?;
    kafka.suspend(frozen)?;
    kafka.wait_for_new_leader("logins", 0, frozen)?;
    kafka.resume(frozen)?;
    kafka.wait_until_in_sync("logins")?;
    kafka.stop(frozen)?;
    assert!(kafka.coordinator_of("group").is_err(), "no group has been here yet");
    Ok(())
}

/// A broker tells whoever comes through a proxy of that proxy's gate, and nobody else.
fn proxied() -> Result<(), Failed> {
    let kafka = KafkaCluster::start_behind_proxies(1, 2)?;
    kafka.create_topic("logins", 1)?;
    let told = |bootstrap: &str, within| -> Result<String, Failed> {
        let asking: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        let metadata = asking.fetch_metadata(Some("logins"), Duration::from_secs(within))?;
        let broker = metadata.brokers().first().ok_or("it names no broker")?;
        Ok(format!("{}:{}", broker.host(), broker.port()))
    };
    for proxy in kafka.proxies() {
        assert_eq!(told(&proxy.addresses(), 10)?, proxy.gate(1)?.to_string());
    }
    assert_eq!(told(kafka.bootstrap_servers(), 10)?, kafka.bootstrap_servers());
    kafka.proxy(0)?.set(1, Weather { to_client: Way::dead(), ..Weather::default() })?;
    assert!(told(&kafka.proxy(0)?.addresses(), 2).is_err(), "no answer comes through");
    told(&kafka.proxy(1)?.addresses(), 10)?;
    assert!(kafka.proxy(2).is_err(), "there are two");
    Ok(())
}
