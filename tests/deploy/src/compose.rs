//! Does the compose file bring up a Kafka, workers that fit it, and logins?

use std::time::Duration;

use docker_compose_types::{Compose, DependsOnOptions, Service};
use serde_json::Value;

use crate::promises::{BESIDE_THE_BUDGET_BYTES, Surroundings, bytes, forced_end, read, root};
use crate::round_trip::{typed, yaml};

const FILE: &str = "deploy/compose/compose.yaml";

const SERVICES: [&str; 4] = ["kafka", "load", "login-counter", "topics"];

fn compose() -> (Compose, Value) {
    let value = yaml(FILE, &read(FILE));
    (typed(FILE, &value), value)
}

fn service<'a>(compose: &'a Compose, name: &str) -> &'a Service {
    compose.services.0[name].as_ref().expect("a service")
}

/// The value of a variable of a service.
fn variable(value: &Value, service: &str, name: &str) -> String {
    let found = &value["services"][service]["environment"][name];
    found.as_str().unwrap_or_else(|| panic!("{service} has no {name}")).to_owned()
}

fn seconds(text: &Option<String>) -> Duration {
    let text = text.as_deref().expect("a time");
    Duration::from_secs(text.strip_suffix('s').expect("seconds").parse().unwrap())
}

fn surroundings(value: &Value) -> Surroundings {
    let variables = value["services"]["login-counter"]["environment"].as_object().unwrap();
    let text = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().into());
    Surroundings { variables: variables.iter().map(text).collect(), ..Surroundings::default() }
}

#[test]
fn each_service_is_known_and_waits_for_what_it_needs() {
    let (compose, _) = compose();
    let names: Vec<_> = compose.services.0.keys().collect();
    assert_eq!(names, SERVICES);
    for (name, needs, condition) in [
        ("topics", "kafka", "service_healthy"),
        ("login-counter", "topics", "service_completed_successfully"),
        ("load", "topics", "service_completed_successfully"),
    ] {
        let DependsOnOptions::Conditional(on) = &service(&compose, name).depends_on else {
            panic!("{name} waits for nothing");
        };
        assert_eq!(on[needs].condition, condition, "{name}");
    }
    assert!(service(&compose, "kafka").healthcheck.is_some(), "nobody would know when it is up");
    let counters = service(&compose, "login-counter").deploy.as_ref();
    assert_eq!(counters.and_then(|deploy| deploy.replicas), Some(3));
}

#[test]
fn a_worker_starts_with_what_compose_gives_it_and_finds_kafka() {
    let (_, value) = compose();
    let loaded = surroundings(&value).settings();
    let kafka = variable(&value, "kafka", "KAFKA_ADVERTISED_LISTENERS");
    let servers = loaded.settings.bootstrap_servers.as_str();
    assert!(kafka.split(',').any(|listener| listener.ends_with(&format!("://{servers}"))));
    assert_eq!(servers, variable(&value, "load", "PELTON__BOOTSTRAP_SERVERS"));
    let making = value["services"]["topics"]["command"][0].as_str().unwrap();
    for topic in [&loaded.app.input_topic, &loaded.app.output_topic] {
        assert!(making.contains(topic.as_str()), "nobody makes {topic}");
    }
    assert!(making.contains(servers));
    let port = loaded.settings.admin.listen.port();
    assert!(loaded.settings.admin.listen.ip().is_unspecified(), "it can't be reached");
    let ports = &value["services"]["login-counter"]["ports"];
    // On this host's loopback alone, at any port: there are three.
    assert_eq!(ports[0], format!("127.0.0.1::{port}"));
    let kept = value["services"]["kafka"]["volumes"][0].as_str().unwrap();
    assert_eq!(kept, format!("kafka-data:{}", variable(&value, "kafka", "KAFKA_LOG_DIRS")));
}

#[test]
fn the_broker_is_the_kafka_that_is_tested_with() {
    let pom = read("tests/kafka/pom.xml");
    let (_, version) = pom.split_once("<kafka.version>").unwrap();
    let version = version.split('<').next().unwrap();
    let (compose, _) = compose();
    for name in ["kafka", "topics"] {
        let image = service(&compose, name).image.as_deref();
        assert_eq!(image, Some(&*format!("docker.io/apache/kafka:{version}")));
    }
}

#[test]
fn workers_are_built_from_here_and_may_nothing_that_they_need_not() {
    let (compose, value) = compose();
    for name in ["login-counter", "load"] {
        let worker = service(&compose, name);
        assert!(worker.read_only && !worker.privileged, "{name}");
        assert_eq!(worker.cap_drop, ["ALL"], "{name}");
        assert_eq!(worker.security_opt, ["no-new-privileges:true"], "{name}");
        assert_eq!(worker.user, None, "{name}: the image's");
        assert!(worker.volumes.is_empty() && worker.cap_add.is_empty(), "{name}");
        let build = &value["services"][name]["build"];
        let folder = root().join("deploy/compose");
        let context = folder.join(build["context"].as_str().unwrap());
        assert_eq!(context.canonicalize().unwrap(), root(), "{name}");
        assert!(context.join(build["dockerfile"].as_str().unwrap()).exists(), "{name}");
        let program = build["args"]["WORKER"].as_str().unwrap();
        assert!(root().join("workers").join(program).exists(), "{program}");
    }
}

#[test]
fn memory_and_time_are_what_a_worker_needs() {
    let (compose, value) = compose();
    let settings = surroundings(&value).settings().settings;
    let worker = service(&compose, "login-counter");
    let limit = bytes(worker.mem_limit.as_deref().expect("a limit"));
    assert_eq!(limit, settings.memory_budget.as_u64() + BESIDE_THE_BUDGET_BYTES);
    let needed = settings.shutdown_timeout + forced_end();
    assert!(seconds(&worker.stop_grace_period) > needed, "{needed:?}");
    assert!(settings.effective_drain_timeout() < settings.shutdown_timeout);
    // The image's health check holds for it; what has no endpoint has none.
    assert!(worker.healthcheck.is_none());
    assert!(service(&compose, "load").healthcheck.as_ref().is_some_and(|check| check.disable));
}
