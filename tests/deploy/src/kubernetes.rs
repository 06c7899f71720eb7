//! Do the Kubernetes manifests fit each other, and the worker?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, Pod, PodSpec, PodTemplateSpec, Probe, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pelton::config::Loaded;

use crate::image::Image;
use crate::promises::{
    BESIDE_THE_BUDGET_BYTES, Surroundings, answers, bytes, flags, forced_end, read, root,
};
use crate::round_trip::{typed, yaml};

const FOLDER: &str = "deploy/kubernetes";

/// Beyond the time an end may take: the kubelet's own, and a slow node's.
const MARGIN: Duration = Duration::from_secs(10);

/// A new pod in the place of one that ended is scheduled, started and in its group by then.
const START: Duration = Duration::from_secs(30);

/// Everything there is, by what it is.
struct Manifests {
    account: ServiceAccount,
    config: ConfigMap,
    secret: Secret,
    service: Service,
    disruption: PodDisruptionBudget,
    deployment: Deployment,
    stateful: StatefulSet,
}

impl Manifests {
    fn read() -> Self {
        Self {
            account: one("common/service-account.yaml", "v1", "ServiceAccount"),
            config: one("common/config.yaml", "v1", "ConfigMap"),
            secret: one("common/secret.yaml", "v1", "Secret"),
            service: one("common/service.yaml", "v1", "Service"),
            disruption: one("common/disruption-budget.yaml", "policy/v1", "PodDisruptionBudget"),
            deployment: one("deployment/deployment.yaml", "apps/v1", "Deployment"),
            stateful: one("statefulset/statefulset.yaml", "apps/v1", "StatefulSet"),
        }
    }

    fn pods(&self) -> [(&'static str, &PodTemplateSpec, &LabelSelector); 2] {
        let (deployment, stateful) =
            (self.deployment.spec.as_ref().unwrap(), self.stateful.spec.as_ref().unwrap());
        [
            ("Deployment", &deployment.template, &deployment.selector),
            ("StatefulSet", &stateful.template, &stateful.selector),
        ]
    }

    /// What the worker in a pod finds: the file its arguments name, its variables, its secrets.
    fn surroundings(&self, pod: &PodSpec) -> Surroundings {
        let worker = container(pod);
        let file = flags(worker.args.as_ref().unwrap()).config.expect("--config");
        let place = file.parent().unwrap().to_str().unwrap();
        let config = volume_at(pod, place).config_map.as_ref().expect("a ConfigMap");
        assert_eq!(Some(&config.name), self.config.metadata.name.as_ref());
        let data = self.config.data.as_ref().unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let variables = worker.env.iter().flatten().map(|variable| {
            let from = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
            let value = match (&variable.value, from) {
                (Some(value), None) => value.clone(),
                (None, Some(field)) if field.field_path == "metadata.name" => "the-pod-3".into(),
                other => panic!("{}: {other:?}", variable.name),
            };
            (variable.name.clone(), value)
        });
        Surroundings {
            file: Some(data.get(name).unwrap_or_else(|| panic!("no {name} in {data:?}")).clone()),
            variables: variables.collect(),
            secrets: self.secret_files(pod),
        }
    }

    fn secret_files(&self, pod: &PodSpec) -> Vec<String> {
        let mut files = Vec::new();
        for mount in container(pod).volume_mounts.iter().flatten() {
            let Some(secret) = &volume_at(pod, &mount.mount_path).secret else { continue };
            assert_eq!(secret.secret_name, self.secret.metadata.name);
            // Readable for the group, which fsGroup makes the worker's; for nobody else.
            assert_eq!(secret.default_mode, Some(0o440));
            let keys = self.secret.string_data.iter().flatten();
            files.extend(keys.map(|(key, _)| format!("{}/{key}", mount.mount_path)));
        }
        files
    }
}

/// The one object of a file, complete, of this kind.
fn one<T>(path: &str, version: &str, kind: &str) -> T
where
    T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let path = format!("{FOLDER}/{path}");
    let value = yaml(&path, &read(&path));
    assert_eq!((&value["apiVersion"], &value["kind"]), (&version.into(), &kind.into()), "{path}");
    typed(&path, &value)
}

fn container(pod: &PodSpec) -> &Container {
    let [only] = &pod.containers[..] else { panic!("not one container") };
    only
}

fn volume_at<'a>(pod: &'a PodSpec, path: &str) -> &'a k8s_openapi::api::core::v1::Volume {
    let mounts = container(pod).volume_mounts.as_ref().unwrap();
    let mount = mounts.iter().find(|mount| mount.mount_path == path);
    let mount = mount.unwrap_or_else(|| panic!("nothing is mounted at {path}"));
    assert_eq!((mount.read_only, &mount.sub_path), (Some(true), &None), "{path}");
    pod.volumes.iter().flatten().find(|volume| volume.name == mount.name).expect("its volume")
}

fn selects(selector: &LabelSelector, pod: &PodTemplateSpec) -> bool {
    let labels = pod.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    let labels = labels.unwrap_or_default();
    let wanted = selector.match_labels.iter().flatten();
    let all = wanted.clone().all(|(key, value)| labels.get(key) == Some(value));
    all && wanted.count() > 0 && selector.match_expressions.is_none()
}

/// The port of the admin endpoint, which nothing but the settings decides.
fn port<A>(loaded: &Loaded<A>) -> i32 {
    assert!(loaded.settings.admin.enabled);
    let listen = loaded.settings.admin.listen;
    assert!(listen.ip().is_unspecified(), "{listen} can't be reached from outside the pod");
    i32::from(listen.port())
}

#[test]
fn each_manifest_is_in_a_kustomization_and_each_kustomization_names_files_that_are_there() {
    for folder in ["common", "deployment", "statefulset"] {
        let path = format!("{FOLDER}/{folder}/kustomization.yaml");
        let value = yaml(&path, &read(&path));
        let known = ["apiVersion", "kind", "resources", "images"];
        assert!(value.as_object().unwrap().keys().all(|key| known.contains(&&**key)), "{value}");
        let resources = value["resources"].as_array().unwrap().iter();
        let mut named: BTreeSet<_> =
            resources.map(|name| name.as_str().unwrap().to_owned()).collect();
        let base = named.remove("../common");
        assert_eq!(base, folder != "common", "{path}");
        let there = fs::read_dir(root().join(FOLDER).join(folder)).unwrap();
        let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<_> = there.filter(|name| name != "kustomization.yaml").collect();
        assert_eq!(named, there, "{path}");
    }
}

#[test]
fn names_and_labels_lead_from_one_object_to_the_next() {
    let all = Manifests::read();
    let budget = all.disruption.spec.as_ref().unwrap();
    let service = all.service.spec.as_ref().unwrap();
    let of_service =
        LabelSelector { match_labels: service.selector.clone(), match_expressions: None };
    for (kind, pod, selector) in all.pods() {
        assert!(selects(selector, pod), "{kind}");
        assert!(selects(budget.selector.as_ref().unwrap(), pod), "{kind}: PodDisruptionBudget");
        assert!(selects(&of_service, pod), "{kind}: Service");
        let spec = pod.spec.as_ref().unwrap();
        for spread in spec.topology_spread_constraints.iter().flatten() {
            assert!(selects(spread.label_selector.as_ref().unwrap(), pod), "{kind}: spread");
        }
        assert_eq!(spec.service_account_name, all.account.metadata.name, "{kind}");
        assert_eq!(spec.automount_service_account_token, Some(false), "{kind}");
    }
    assert_eq!(all.account.automount_service_account_token, Some(false));
    let stateful = all.stateful.spec.as_ref().unwrap();
    assert_eq!(stateful.service_name, all.service.metadata.name);
    assert_eq!(service.cluster_ip.as_deref(), Some("None"), "a StatefulSet's is headless");
}

#[test]
fn a_worker_starts_with_what_its_pod_gives_it() {
    let all = Manifests::read();
    for (kind, pod, _) in all.pods() {
        let spec = pod.spec.as_ref().unwrap();
        let surroundings = all.surroundings(spec);
        let loaded = surroundings.settings();
        // Every file of a secret is used, and no password stands in the open.
        let text = surroundings.file.unwrap();
        for secret in &surroundings.secrets {
            assert!(text.contains(secret), "{kind}: nobody reads {secret}");
        }
        assert!(!text.contains("sasl.password\" ="), "{kind}");
        let group = loaded.settings.group_id.as_deref();
        assert_eq!(group, all.config.metadata.name.as_deref(), "{kind}");
    }
}

#[test]
fn static_members_are_named_after_their_pods_and_others_have_no_name() {
    let all = Manifests::read();
    let [deployment, stateful] = all
        .pods()
        .map(|(_, pod, _)| all.surroundings(pod.spec.as_ref().unwrap()).settings().settings);
    assert_eq!(deployment.group_instance_id, None, "copies would throw each other out");
    assert_eq!(stateful.group_instance_id.as_deref(), Some("the-pod-3"));
    let restart = stateful.shutdown_timeout + START;
    assert!(stateful.session_timeout() >= restart, "its partitions move while it restarts");
    let spec = all.stateful.spec.as_ref().unwrap();
    assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
}

#[test]
fn probes_and_prometheus_ask_for_paths_that_are_there_at_the_port_that_is_listened_on() {
    let all = Manifests::read();
    let service = all.service.spec.as_ref().unwrap();
    let [service_port] = &service.ports.as_ref().unwrap()[..] else { panic!("not one port") };
    let mut asked = vec!["/metrics"];
    for (kind, pod, _) in all.pods() {
        let spec = pod.spec.as_ref().unwrap();
        let port = port(&all.surroundings(spec).settings());
        let worker = container(spec);
        let [named] = &worker.ports.as_ref().unwrap()[..] else { panic!("not one port") };
        assert_eq!(named.container_port, port, "{kind}");
        let name = IntOrString::String(named.name.clone().unwrap());
        let probes = [
            (&worker.startup_probe, "/startupz"),
            (&worker.liveness_probe, "/livez"),
            (&worker.readiness_probe, "/readyz"),
        ];
        for (probe, path) in probes {
            let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref()).expect(path);
            assert_eq!((get.path.as_deref(), &get.port), (Some(path), &name), "{kind}");
            asked.push(path);
        }
        assert_eq!(service_port.target_port.as_ref(), Some(&name));
        assert_eq!(service_port.port, port);
        let of_pod = pod.metadata.as_ref().unwrap().annotations.as_ref().unwrap();
        for annotations in [of_pod, all.service.metadata.annotations.as_ref().unwrap()] {
            assert_eq!(annotations["prometheus.io/port"], port.to_string(), "{kind}");
            assert_eq!(annotations["prometheus.io/path"], asked[0], "{kind}");
            assert_eq!(annotations["prometheus.io/scrape"], "true", "{kind}");
        }
    }
    assert!(answers(&asked).iter().all(|status| *status == 200), "{asked:?}");
}

#[test]
fn an_end_has_the_time_it_may_take() {
    let all = Manifests::read();
    for (kind, pod, _) in all.pods() {
        let spec = pod.spec.as_ref().unwrap();
        let settings = all.surroundings(spec).settings().settings;
        assert!(settings.effective_drain_timeout() < settings.shutdown_timeout, "{kind}");
        let grace = spec.termination_grace_period_seconds.expect("a grace period");
        let grace = Duration::from_secs(grace.try_into().unwrap());
        let needed = settings.shutdown_timeout + forced_end() + MARGIN;
        assert!(grace >= needed, "{kind}: {grace:?} is less than {needed:?}");
        // A hook would take its time from the worker's.
        assert_eq!(container(spec).lifecycle, None, "{kind}");
        let policy = container(spec).termination_message_policy.as_deref();
        assert_eq!(policy, Some("FallbackToLogsOnError"), "{kind}");
        assert_eq!(container(spec).termination_message_path, None, "{kind}: farewell.rs knows");
    }
}

#[test]
fn a_worker_that_is_slow_to_join_or_to_answer_is_left_in_peace() {
    let patience = |probe: &Option<Probe>| {
        let probe = probe.as_ref().unwrap();
        probe.period_seconds.unwrap() * probe.failure_threshold.unwrap()
    };
    for (kind, pod, _) in Manifests::read().pods() {
        let worker = container(pod.spec.as_ref().unwrap());
        // It gives Kafka up by itself after 10 s; a group may take its rebalance time-out.
        assert!(patience(&worker.startup_probe) >= 60, "{kind}");
        // The endpoint itself takes a poll loop for hanging after 30 s.
        assert!(patience(&worker.liveness_probe) >= 30, "{kind}");
    }
}

#[test]
fn memory_is_what_the_budget_and_the_program_need() {
    let all = Manifests::read();
    for (kind, pod, _) in all.pods() {
        let spec = pod.spec.as_ref().unwrap();
        let budget = all.surroundings(spec).settings().settings.memory_budget;
        let resources = container(spec).resources.as_ref().unwrap();
        let (limits, requests) =
            (resources.limits.as_ref().unwrap(), resources.requests.as_ref().unwrap());
        let wanted = budget.as_u64() + BESIDE_THE_BUDGET_BYTES;
        assert_eq!(bytes(&limits["memory"].0), wanted, "{kind}");
        assert_eq!(limits["memory"], requests["memory"], "{kind}: it would be evicted first");
        assert!(!limits.contains_key("cpu"), "{kind}: a throttled worker misses heartbeats");
        assert!(requests.contains_key("cpu"), "{kind}");
    }
}

#[test]
fn a_worker_may_nothing_that_it_needs_not() {
    let image = Image::read();
    for (kind, pod, _) in Manifests::read().pods() {
        let spec = pod.spec.as_ref().unwrap();
        let of_pod = spec.security_context.as_ref().unwrap();
        assert_eq!(of_pod.run_as_non_root, Some(true), "{kind}");
        let user = image.user();
        assert_eq!((of_pod.run_as_user, of_pod.run_as_group), (Some(user.0), Some(user.1)));
        assert_eq!(of_pod.fs_group, Some(user.1), "{kind}: it could not read its secrets");
        let seccomp = of_pod.seccomp_profile.as_ref().unwrap();
        assert_eq!(seccomp.type_, "RuntimeDefault", "{kind}");
        let worker = container(spec);
        let own = worker.security_context.as_ref().unwrap();
        assert_eq!(own.allow_privilege_escalation, Some(false), "{kind}");
        assert_eq!(own.read_only_root_filesystem, Some(true), "{kind}");
        let capabilities = own.capabilities.as_ref().unwrap();
        assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]), "{kind}");
        assert!(capabilities.add.is_none() && own.privileged.is_none(), "{kind}");
        let host = [spec.host_network, spec.host_pid, spec.host_ipc];
        assert!(host.iter().all(Option::is_none), "{kind}");
        // The program is the image's; a pod gives it arguments alone.
        assert_eq!(worker.command, None, "{kind}");
        assert_eq!(spec.enable_service_links, Some(false), "{kind}");
    }
}

#[test]
fn copies_are_replaced_one_at_a_time_and_never_missed() {
    let all = Manifests::read();
    let deployment = all.deployment.spec.as_ref().unwrap();
    let strategy = deployment.strategy.as_ref().unwrap();
    let rolling = strategy.rolling_update.as_ref().unwrap();
    assert_eq!(strategy.type_.as_deref(), Some("RollingUpdate"));
    assert_eq!(rolling.max_unavailable, Some(IntOrString::Int(0)));
    assert_eq!(rolling.max_surge, Some(IntOrString::Int(1)));
    let stateful = all.stateful.spec.as_ref().unwrap();
    let update = stateful.update_strategy.as_ref().unwrap();
    assert_eq!(update.type_.as_deref(), Some("RollingUpdate"));
    let budget = all.disruption.spec.as_ref().unwrap();
    assert_eq!(budget.max_unavailable, Some(IntOrString::Int(1)));
    for (kind, replicas, ready) in [
        ("Deployment", deployment.replicas, deployment.min_ready_seconds),
        ("StatefulSet", stateful.replicas, stateful.min_ready_seconds),
    ] {
        assert!(replicas > Some(1), "{kind}: a node could never be drained");
        assert!(ready >= Some(5), "{kind}: ready for a moment is not enough");
    }
}

/// What kubectl itself makes of it, where it is.
#[test]
fn kubectl_can_put_the_manifests_together() {
    for folder in ["deployment", "statefulset"] {
        let path = root().join(FOLDER).join(folder);
        let run = std::process::Command::new("kubectl").arg("kustomize").arg(path).output();
        let Ok(made) = run else {
            println!("kubectl is not here: not tried");
            return;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = String::from_utf8(made.stdout).unwrap();
        let kinds: BTreeMap<_, _> = text
            .split("\n---\n")
            .map(|text| yaml(folder, text))
            .map(|value| (value["kind"].as_str().unwrap().to_owned(), value))
            .collect();
        assert_eq!(kinds.len(), 6, "{:?}", kinds.keys());
        let pod = kinds.get("Deployment").or_else(|| kinds.get("StatefulSet")).unwrap();
        let pod: Pod = serde_json::from_value(pod["spec"]["template"].clone()).unwrap();
        let image = container(pod.spec.as_ref().unwrap()).image.clone().unwrap();
        assert!(image.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest"), "{image}");
    }
}
