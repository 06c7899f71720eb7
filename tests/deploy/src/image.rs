//! Is the image small, pinned, not root's, and does it run the worker as the worker wants?

use std::collections::BTreeSet;

use pelton::config::AdminSettings;

use crate::promises::{flags, read, root};

/// A Dockerfile: its instructions, each with its arguments, in order.
pub(crate) struct Image {
    instructions: Vec<(String, String)>,
}

impl Image {
    pub(crate) fn read() -> Self {
        let mut instructions = Vec::new();
        let mut open = String::new();
        for line in read("deploy/image/Dockerfile").lines() {
            if line.trim_start().starts_with('#') || (open.is_empty() && line.trim().is_empty()) {
                continue;
            }
            match line.strip_suffix('\\') {
                Some(part) => open.push_str(part),
                None => {
                    open.push_str(line);
                    let (name, rest) = open.split_once(' ').expect("an instruction");
                    instructions.push((name.to_owned(), rest.trim().to_owned()));
                    open.clear();
                }
            }
        }
        assert!(open.is_empty(), "it ends in the middle of {open}");
        Self { instructions }
    }

    /// The arguments of all such instructions.
    fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        self.instructions.iter().filter(move |(known, _)| *known == name).map(|(_, rest)| &**rest)
    }

    /// The arguments of the one such instruction in the last stage.
    fn last_stage(&self, name: &str) -> &str {
        let start = self.instructions.iter().rposition(|(name, _)| name == "FROM").unwrap();
        let found: Vec<_> =
            self.instructions[start..].iter().filter(|(known, _)| known == name).collect();
        let [(_, rest)] = found[..] else { panic!("not one {name} but {found:?}") };
        rest
    }

    /// The user and the group a container runs as.
    pub(crate) fn user(&self) -> (i64, i64) {
        let (user, group) = self.last_stage("USER").split_once(':').expect("USER user:group");
        (user.parse().expect("a number"), group.parse().expect("a number"))
    }
}

/// `["a", "b"]`: started as it stands, without a shell.
fn exec_form(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("a shell would be needed for {text}"))
}

#[test]
fn only_known_instructions_stand_in_the_dockerfile() {
    const KNOWN: &[&str] = &[
        "ARG",
        "FROM",
        "ENV",
        "WORKDIR",
        "COPY",
        "RUN",
        "LABEL",
        "USER",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
    ];
    for (name, rest) in Image::read().instructions {
        assert!(KNOWN.contains(&&*name), "{name} {rest}");
    }
}

#[test]
fn nothing_of_the_image_that_builds_is_in_the_one_that_runs_unless_it_was_gathered() {
    let image = Image::read();
    let stages: Vec<_> = image.all("FROM").collect();
    assert_eq!(stages, ["${RUST_IMAGE} AS build", "scratch"]);
    assert_eq!(image.last_stage("COPY"), "--from=build /image /");
    let build = image.all("RUN").collect::<Vec<_>>().join("\n");
    assert!(build.contains("--locked") && build.contains("--release"), "{build}");
    assert!(build.contains("gather.sh \"target/release/${WORKER}\" /image"), "{build}");
    assert!(!image.last_stage("ENTRYPOINT").is_empty());
}

#[test]
fn the_base_image_is_pinned_and_knows_the_language() {
    let image = Image::read();
    let base = image.all("ARG").find_map(|arg| arg.strip_prefix("RUST_IMAGE=")).unwrap();
    let (_, tag) = base.rsplit_once(':').expect("a tag");
    let (version, debian) = tag.split_once('-').expect("version-debian");
    let numbers = |text: &str| -> Vec<u32> {
        text.split('.').map(|number| number.parse().expect("a number")).collect()
    };
    assert_eq!(numbers(version).len(), 3, "{tag} may be another tomorrow");
    assert!(!debian.is_empty() && !debian.contains("slim"), "slim has no OpenSSL to build with");
    let manifest = read("Cargo.toml");
    let (_, least) = manifest.split_once("rust-version = \"").unwrap();
    assert!(numbers(version) >= numbers(least.split('"').next().unwrap()), "{tag}");
}

#[test]
fn a_container_is_not_root_and_is_asked_how_it_is_by_its_own_program() {
    let image = Image::read();
    let (user, group) = image.user();
    assert!(user > 0 && group > 0, "{user}:{group}");
    let entry = exec_form(image.last_stage("ENTRYPOINT"));
    let (options, command) = image.last_stage("HEALTHCHECK").split_once("CMD ").unwrap();
    let check = exec_form(command);
    assert_eq!(check[0], entry[0]);
    assert_eq!(flags(&check[1..]).health.as_deref(), Some("livez"));
    assert!(options.contains("--start-period="), "it has to join its group first");
    assert_eq!(image.last_stage("STOPSIGNAL"), "SIGTERM");
    let port = AdminSettings::default().listen.port().to_string();
    assert_eq!(image.last_stage("EXPOSE"), port);
    let gather = read("deploy/image/gather.sh");
    assert!(gather.contains(&format!("\"$root{}\"", entry[0])), "{} is not put there", entry[0]);
    assert!(gather.contains(&format!("worker:x:{user}:{group}:")), "the user has no name");
    // It would beat the settings file, in silence.
    assert!(!image.last_stage("ENV").contains("PELTON__"));
}

#[test]
fn the_program_is_one_of_the_workers() {
    for worker in Image::read().all("ARG").filter_map(|arg| arg.strip_prefix("WORKER=")) {
        assert!(root().join("workers").join(worker).join("src/main.rs").exists(), "{worker}");
    }
}

#[test]
fn the_context_has_what_the_build_needs_and_nothing_that_is_built() {
    let text = read(".dockerignore");
    let lines: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(lines[0], "*", "it lets in all that it does not name");
    let allowed: BTreeSet<_> = lines.iter().filter_map(|line| line.strip_prefix('!')).collect();
    for path in &allowed {
        assert!(root().join(path).exists(), "{path} is not there");
    }
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").unwrap();
    for member in members.split(']').next().unwrap().split(',') {
        let folder = member.trim().trim_matches('"').split('/').next().unwrap();
        assert!(allowed.contains(folder), "cargo needs {folder}");
    }
    for file in ["Cargo.toml", "Cargo.lock", "deploy/image/gather.sh"] {
        assert!(allowed.contains(file), "{file}");
    }
    assert!(lines.contains(&"**/target"));
}
