//! Do the documents and the shape of the code say the same? Read as text, without building.
//!
//! Each check here is one that a compiler, clippy or a crate's own tests can't make.

#![expect(clippy::panic, reason = "a check says what is wrong")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files of the repository by path, `/` between the parts; without what is built.
fn files() -> Vec<String> {
    fn walk(folder: &Path, root: &Path, out: &mut Vec<String>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        for entry in entries {
            let entry = entry.expect("an entry");
            let name = entry.file_name();
            if matches!(name.to_str(), Some("target" | ".git" | "proptest-regressions")) {
                continue;
            }
            let path = entry.path();
            if entry.file_type().expect("a file type").is_dir() {
                walk(&path, root, out);
            } else {
                let path = path.strip_prefix(root).expect("below the root");
                out.push(path.to_string_lossy().into_owned());
            }
        }
    }
    let mut out = Vec::new();
    walk(&root(), &root(), &mut out);
    out.sort();
    out
}

fn sources() -> impl Iterator<Item = String> {
    files().into_iter().filter(|path| path.ends_with(".rs"))
}

/// What programs run: Rust and scripts.
fn is_source(path: &str) -> bool {
    [".rs", ".sh", ".py"].iter().any(|end| path.ends_with(end)) || path == ".ci/run"
}

/// Is the whole file test code?
fn is_test_file(path: &str) -> bool {
    path.contains("/tests/")
        || path.starts_with("tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

/// A source file's production code and its test code.
fn halves(path: &str) -> (String, String) {
    let text = read(path);
    if is_test_file(path) {
        return (String::new(), text);
    }
    match text.split_once("#[cfg(test)]") {
        Some((code, tests)) => (code.to_owned(), tests.to_owned()),
        None => (text, String::new()),
    }
}

/// The lines without comments.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// Identifiers and keywords of a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// What stands between the first two backticks.
fn first_quoted(line: &str) -> Option<&str> {
    line.split('`').nth(1)
}

/// The numbers that follow `mark` in `text`.
fn numbers_after(text: &str, mark: &str) -> BTreeSet<u32> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split(mark).skip(1).filter_map(|rest| digits(rest).parse().ok()).collect()
}

/// The part of a document below a heading, up to the next one of its rank.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no section {heading:?}"));
    let rank = heading.split(' ').next().unwrap_or_default();
    rest.split(&format!("\n{rank} ")).next().unwrap_or_default()
}

/// A third-rank heading with a folder in backticks opens a table; each row names a file below it.
fn mapped_files() -> Vec<String> {
    let architecture = read("ARCHITECTURE.md");
    let mut folder = "";
    let mut mapped = Vec::new();
    for line in section(&architecture, "## File map").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            folder = first_quoted(heading).unwrap_or_default().trim_end_matches('/');
        } else if line.starts_with("| `") {
            let file = first_quoted(line).unwrap_or_default();
            mapped.push(if folder == "." { file.to_owned() } else { format!("{folder}/{file}") });
        }
    }
    mapped
}

/// The row that a file wants, and where: the first sentence of its header.
fn row(path: &str) -> String {
    let folder =
        Path::new(path).ancestors().skip(1).find(|at| root().join(at).join("Cargo.toml").exists());
    let folder = folder.map(|at| at.to_string_lossy().into_owned()).unwrap_or_default();
    let text = read(path);
    let mut sentence = String::new();
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("//! ").or_else(|| line.strip_prefix("# ")))
    {
        sentence = format!("{sentence} {line}");
        if sentence.ends_with(['.', '?', '!']) {
            break;
        }
    }
    let file = path.strip_prefix(&folder).unwrap_or(path).trim_start_matches('/');
    format!("below `{folder}/`: | `{file}` |{sentence} |")
}

#[test]
fn every_source_file_is_in_the_map_and_the_map_names_no_other() {
    let mapped = mapped_files();
    let there: BTreeSet<_> = files().into_iter().filter(|path| is_source(path)).collect();
    let named: BTreeSet<_> = mapped.iter().cloned().collect();
    let missing: Vec<_> = there.difference(&named).map(|path| row(path)).collect();
    let gone: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md lacks the rows\n{}", missing.join("\n"));
    assert!(gone.is_empty(), "ARCHITECTURE.md names {gone:#?}, which are not there");
    assert_eq!(mapped.len(), named.len(), "ARCHITECTURE.md names a file twice");
}

/// A test cites an invariant by its name (`inv_3_…`, `inv_2_and_3_…`) or in a comment (`INV-3`).
#[test]
fn every_invariant_is_cited_by_a_test_and_no_unknown_one_is_cited() {
    let table = read("framework/pelton/docs/invariants.md");
    let rows: String = table.lines().filter(|line| line.starts_with("| INV-")).collect();
    let known = numbers_after(&rows, "| INV-");
    assert!(!known.is_empty());

    let mut tested = BTreeSet::new();
    for path in sources().filter(|path| path != "tests/tests/tidy.rs") {
        let text = read(&path);
        let cited: BTreeSet<_> = &numbers_after(&text, "INV-") | &numbers_after(&text, "fn inv_");
        let unknown: Vec<_> = cited.difference(&known).collect();
        assert!(unknown.is_empty(), "{path} cites INV-{unknown:?}; invariants.md has no such");

        let tests = halves(&path).1;
        tested.extend(numbers_after(&tests, "INV-"));
        for name in tests.split("fn inv_").skip(1) {
            let name = name.split('(').next().unwrap_or_default();
            // inv_2_and_3_every_record…: numbers and "and", up to the first other word.
            let numbers = name.split('_').take_while(|w| *w == "and" || w.parse::<u32>().is_ok());
            tested.extend(numbers.filter_map(|word| word.parse::<u32>().ok()));
        }
    }
    let untested: Vec<_> = known.difference(&tested).collect();
    assert!(untested.is_empty(), "no test cites INV-{untested:?}");
}

/// The engine decides; it never looks. So the same events give the same actions.
#[test]
fn the_engine_knows_no_clock_no_thread_no_input_and_no_hash_order() {
    const FORBIDDEN: &[&str] = &[
        "Instant",
        "SystemTime",
        "UNIX_EPOCH",
        "thread",
        "net",
        "fs",
        "env",
        "process",
        "io",
        "HashMap",
        "HashSet",
        "RandomState",
        "async",
        "await",
        "unsafe",
        "println",
        "eprintln",
    ];
    let manifest = read("framework/engine/Cargo.toml");
    let dependencies = manifest.split("\n[").any(|part| part.starts_with("dependencies"));
    assert!(!dependencies, "the engine may depend on nothing");
    let engine: Vec<_> =
        sources().filter(|path| path.starts_with("framework/engine/src/")).collect();
    assert!(engine.len() > 10, "{engine:?}");
    for path in engine {
        let (code, _) = halves(&path);
        for line in code_lines(&code) {
            // One table is never iterated, and says so.
            let is_table = path.ends_with("/line_table.rs");
            let forbidden =
                |word: &&str| FORBIDDEN.contains(word) && !(is_table && *word == "HashMap");
            let found = words(line).find(forbidden);
            assert!(found.is_none(), "{path}: {found:?} in {line:?}");
        }
    }
}

/// Other clients, and a simulated cluster, can take librdkafka's place behind the ports.
#[test]
fn only_the_kafka_folder_knows_rdkafka() {
    for path in sources().filter(|path| path.starts_with("framework/pelton/src/")) {
        if path.starts_with("framework/pelton/src/kafka") {
            continue;
        }
        let (code, _) = halves(&path);
        let found = code_lines(&code).find(|line| words(line).any(|word| word == "rdkafka"));
        assert!(found.is_none(), "{path} mentions rdkafka: {found:?}");
    }
}

#[test]
fn unsafe_stands_in_two_files_alone() {
    const ALLOWED: &[&str] =
        &["framework/pelton/src/kafka/ffi.rs", "framework/testkit/src/embedded.rs"];
    for path in
        sources().filter(|path| !ALLOWED.contains(&path.as_str()) && !path.ends_with("/tidy.rs"))
    {
        let text = read(&path);
        let found = code_lines(&text).find(|line| words(line).any(|word| word == "unsafe"));
        assert!(found.is_none(), "{path}: {found:?}");
    }
}

/// `clippy.toml` forbids the calls; whoever expects the lint reads a clock.
#[test]
fn only_the_host_reads_the_clock_of_a_worker() {
    for path in sources().filter(|path| path.starts_with("framework/pelton/src/")) {
        let (code, _) = halves(&path);
        let reads = code_lines(&code).any(|line| line.contains("clippy::disallowed_methods"));
        assert!(!reads || path == "framework/pelton/src/host.rs", "{path} reads the clock");
    }
}

#[test]
fn every_error_code_is_documented_and_every_documented_one_exists() {
    let documented: BTreeSet<_> = read("framework/pelton/docs/errors.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| PLT-")?.get(..4).map(str::to_owned))
        .collect();
    let mut used = BTreeSet::new();
    for path in sources().filter(|path| path != "tests/tests/tidy.rs") {
        let (code, tests) = halves(&path);
        let codes = |text: &str| {
            let after = text.split("PLT-").skip(1).filter_map(|rest| rest.get(..4));
            let codes = after.filter(|code| code.chars().all(|c| c.is_ascii_digit()));
            codes.map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let all = &codes(&code) | &codes(&tests);
        let unknown: Vec<_> = all.difference(&documented).collect();
        assert!(unknown.is_empty(), "{path} has PLT-{unknown:?}, which errors.md does not explain");
        used.extend(codes(&code));
    }
    let unused: Vec<_> = documented.difference(&used).collect();
    assert!(unused.is_empty(), "errors.md explains PLT-{unused:?}, which no code has");
}

/// That each setting is documented is checked where its table is generated; here the way back.
#[test]
fn every_documented_setting_exists() {
    let document = read("framework/pelton/docs/config.md");
    let effective = pelton::config::load_from::<()>(
        "tidy",
        &pelton::config::Flags::default(),
        &std::collections::BTreeMap::new(),
    )
    .expect("defaults")
    .effective();
    let keys: BTreeSet<_> = effective.lines().filter_map(|line| line.split(" = ").next()).collect();
    let rows = section(&document, "## Every worker").lines().filter(|line| line.starts_with("| `"));
    let documented: Vec<_> = rows.filter_map(first_quoted).collect();
    assert!(documented.len() > 20, "{documented:?}");
    for key in documented {
        assert!(keys.contains(key), "config.md has `{key}`, which is no setting");
    }
}

/// The tables of every worker are generated; the login counter's is by hand.
#[test]
fn the_login_counters_settings_are_documented_and_no_other() {
    let environment = std::collections::BTreeMap::new();
    let loaded = pelton::config::load_from::<login_counter::LoginCounterSettings>(
        "login-counter",
        &pelton::config::Flags::default(),
        &environment,
    );
    let effective = loaded.expect("defaults").effective();
    let own = |line: &&str| line.starts_with("login_counter.");
    let keys: BTreeSet<_> =
        effective.lines().filter(own).filter_map(|line| line.split(" = ").next()).collect();
    let document = read("framework/pelton/docs/config.md");
    let rows = document.lines().filter(|line| line.starts_with("| `login_counter."));
    let documented: BTreeSet<_> = rows.filter_map(first_quoted).collect();
    assert!(!keys.is_empty());
    assert_eq!(documented, keys);
}

#[test]
fn every_example_starts_with_its_run_command() {
    let manifest = read("examples/Cargo.toml");
    let examples: Vec<_> = sources()
        .filter_map(|path| path.strip_prefix("examples/").map(str::to_owned))
        .filter(|name| name != "lib.rs" && !name.starts_with("tests/"))
        .collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for file in examples {
        let name = file.trim_end_matches(".rs");
        let text = read(&format!("examples/{file}"));
        let command = format!("//! cargo run -p pelton-examples --example {name}");
        assert!(text.starts_with(&command), "examples/{file} does not start with {command:?}");
        let declared = format!("name = \"{name}\"\npath = \"{file}\"");
        assert!(manifest.contains(&declared), "examples/Cargo.toml does not declare {name}");
    }
}

/// The types that a file declares for others, each with the comment above it.
fn public_types(code: &str) -> Vec<(String, String)> {
    let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
    let (mut types, mut comment) = (Vec::new(), String::new());
    for line in code.lines() {
        if let Some(doc) = line.strip_prefix("///") {
            comment.push_str(doc);
            comment.push('\n');
        } else if let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) {
            let name = words(rest).next().unwrap_or_default().to_owned();
            types.push((name, std::mem::take(&mut comment)));
        } else if line.is_empty() || line.starts_with('}') || line.ends_with(';') {
            // Attributes stand between a comment and its type; the end of an item does not.
            comment.clear();
        }
    }
    types
}

/// Does a comment open a block that rustdoc compiles? Drawings (`text`) and `ignore` are none.
fn has_example(comment: &str) -> bool {
    let fences = comment.lines().filter_map(|line| line.trim().strip_prefix("```"));
    let mut opening = fences.step_by(2);
    opening.any(|kind| matches!(kind, "" | "no_run" | "should_panic" | "compile_fail"))
}

/// An example is the shortest answer to what a type is for, and the compiler keeps it true.
#[test]
fn every_public_type_has_a_doctest() {
    const CRATES: &[&str] = &[
        "framework/engine",
        "framework/pelton",
        "framework/testkit",
        "workers/load-generator",
        "workers/login-counter",
    ];
    // Public for another crate of ours, and in nobody's documentation.
    const HIDDEN: &str = "framework/testkit/src/scenarios";
    let (mut known, mut bare) = (0, Vec::new());
    for path in sources() {
        let is_public = CRATES.iter().any(|folder| path.starts_with(&format!("{folder}/src/")));
        if !is_public || path.starts_with(HIDDEN) {
            continue;
        }
        for (name, comment) in public_types(&halves(&path).0) {
            known += 1;
            if !has_example(&comment) {
                bare.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(known > 100, "only {known} public types are found");
    assert!(bare.is_empty(), "these types have no example:\n{}", bare.join("\n"));
}

#[test]
fn the_top_level_holds_what_the_design_names() {
    const ALLOWED: &[&str] = &[
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "Cargo.lock",
        "Cargo.toml",
        "clippy.toml",
        "deny.toml",
        "rustfmt.toml",
        "deploy",
        "examples",
        "framework",
        "tests",
        "workers",
    ];
    for path in files() {
        let top = path.split('/').next().unwrap_or_default();
        assert!(top.starts_with('.') || ALLOWED.contains(&top), "{top} is at the top level");
    }
    for document in
        ALLOWED.iter().filter(|name| !name.chars().next().is_some_and(char::is_lowercase))
    {
        assert!(root().join(document).exists(), "{document} is missing");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in files().into_iter().filter(|path| path.ends_with(".md")) {
        let text = read(&path);
        let folder = root().join(&path).parent().expect("a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://");
            assert!(elsewhere || folder.join(target).exists(), "{path} links to {target}");
        }
    }
}
