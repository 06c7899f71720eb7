//! Where do Kafka's jars come from, and how is a JVM started with them?
//!
//! Maven copies them (`tests/kafka/pom.xml`, 54 MB) into `target/kafka`, once per target folder
//! and version. Once per JVM version, a node is started to record two things that make every
//! later start faster: the first records of a cluster's metadata log (instead of a JVM that
//! formats each node's folder) and an archive of the loaded classes (start 4.0 → 1.9 s, processor
//! time 2.5 → 1.2 s).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::ClusterError;
use crate::kafka::nodes::Nodes;
use crate::kafka::process::{output, tail};

const POM: &str = include_str!("../../kafka/pom.xml");
const LOGGING: &str = include_str!("../../kafka/log4j2.properties");

/// How long Maven may take.
const FETCH: Duration = Duration::from_secs(600);
const ATTEMPTS: u32 = 3;

/// Apache Kafka's jars and the JVM to run them on.
///
/// ```no_run
/// use pelton_tests::Distribution;
///
/// let distribution = Distribution::get(&|step| eprintln!("{step}"))?;
/// println!("Apache Kafka {}", Distribution::version());
/// # Ok::<(), pelton_tests::ClusterError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Distribution {
    folder: PathBuf,
    java: PathBuf,
    /// As `java -version` says it.
    java_version: String,
}

impl Distribution {
    /// The jars, fetched if they are missing; `tell` hears of what takes its time. Another
    /// process that is about to fetch is waited for. The answer holds for the whole process.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Impossible`] says what is missing.
    pub fn get(tell: &dyn Fn(&str)) -> Result<&'static Self, ClusterError> {
        static FOUND: OnceLock<Result<Distribution, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            Self::prepare(tell).map_err(|error| match error {
                ClusterError::Impossible { reason } => reason,
                other => other.to_string(),
            })
        });
        found.as_ref().map_err(|reason| ClusterError::Impossible { reason: reason.clone() })
    }

    /// Which Apache Kafka it is.
    #[must_use]
    pub fn version() -> &'static str {
        let after = POM.split_once("<kafka.version>").map_or("", |(_, after)| after);
        after.split_once('<').map_or("", |(version, _)| version)
    }

    /// Where everything of Kafka lies: jars, folders of running nodes.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a new node's data folder begins with.
    pub(crate) fn first_records(&self) -> PathBuf {
        self.folder.join("bootstrap.checkpoint")
    }

    /// A JVM with Kafka's classes; the main class and its arguments are still to be added.
    pub(crate) fn java(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.java);
        // Small and quick to start: the serial collector, the first compiler only. The JVM's
        // own log would go to standard output, where the tools answer.
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:disable"]);
        if self.archive().exists() {
            command.arg(flag("-XX:SharedArchiveFile=", &self.archive()));
        }
        command.arg(flag("-Dlog4j2.configurationFile=", &self.folder.join("log4j2.properties")));
        command.args(flags).arg("-cp").arg(self.class_path());
        command
    }

    fn class_path(&self) -> OsString {
        flag("", &self.folder.join("libs").join("*"))
    }

    fn archive(&self) -> PathBuf {
        self.folder.join(format!("classes-java-{}.jsa", self.java_version))
    }

    fn prepare(tell: &dyn Fn(&str)) -> Result<Self, ClusterError> {
        let (java, java_version) = find_java()?;
        let folder = target_folder().join("kafka");
        let this = Self { folder, java, java_version };
        fs::create_dir_all(&this.folder).map_err(ClusterError::io("target/kafka"))?;
        let _one_at_a_time = lock(&this.folder.join("lock"))?;
        for (name, text) in [("pom.xml", POM), ("log4j2.properties", LOGGING)] {
            fs::write(this.folder.join(name), text).map_err(ClusterError::io(name))?;
        }
        if fs::read_to_string(this.stamp()).is_ok_and(|pom| pom == POM) {
            return this.recorded(tell);
        }
        this.fetch(tell)?;
        this.recorded(tell)
    }

    /// Holds the POM when all the jars that it names are there.
    fn stamp(&self) -> PathBuf {
        self.folder.join("complete")
    }

    fn fetch(&self, tell: &dyn Fn(&str)) -> Result<(), ClusterError> {
        let version = Self::version();
        let io = |error| ClusterError::Io { what: "target/kafka".to_owned(), error };
        remove(&self.stamp()).map_err(io)?;
        remove(&self.first_records()).map_err(io)?;
        remove(&self.archive()).map_err(io)?;
        let mut reason = String::new();
        for attempt in 1..=ATTEMPTS {
            tell(&format!("fetching Apache Kafka {version} with Maven (54 MB, once)"));
            match self.copy_jars() {
                Ok(()) => return fs::write(self.stamp(), POM).map_err(io),
                Err(error @ ClusterError::Impossible { .. }) => return Err(error),
                Err(error) => reason = error.to_string(),
            }
            tell(&format!("attempt {attempt} of {ATTEMPTS} failed"));
        }
        Err(ClusterError::Impossible { reason: format!("Maven could not fetch it: {reason}") })
    }

    fn copy_jars(&self) -> Result<(), ClusterError> {
        let io = |error| ClusterError::Io { what: "target/kafka/libs".to_owned(), error };
        let (part, libs) = (self.folder.join("libs.part"), self.folder.join("libs"));
        remove(&part).map_err(io)?;
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "-f"]).arg(self.folder.join("pom.xml"));
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg(flag("-DoutputDirectory=", &part));
        let said = match output("running mvn", maven, FETCH) {
            Err(ClusterError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                let reason = "Maven (mvn) is not installed; it fetches the jars".to_owned();
                return Err(ClusterError::Impossible { reason });
            }
            said => said?,
        };
        if !said.status.success() {
            let text = String::from_utf8_lossy(&said.stdout);
            return Err(ClusterError::refused("mvn failed", tail(&text, 5)));
        }
        remove(&libs).map_err(io)?;
        fs::rename(&part, &libs).map_err(io)
    }

    /// Records, if that has not been done, what makes later starts faster.
    fn recorded(self, tell: &dyn Fn(&str)) -> Result<Self, ClusterError> {
        if !self.first_records().exists() {
            tell("preparing the first records of a cluster (once)");
            self.record_first_records()?;
        }
        if !self.archive().exists() {
            tell("recording an archive of its classes, for fast starts (once)");
            let part = self.archive().with_extension("part");
            let recording = flag("-XX:ArchiveClassesAtExit=", &part);
            let node = Nodes::start(&self, 1, &[recording.to_string_lossy().as_ref()])?;
            node.node(1)?.stop()?;
            // Without it everything works, only slower.
            let _slower = fs::rename(&part, self.archive());
        }
        Ok(self)
    }

    fn record_first_records(&self) -> Result<(), ClusterError> {
        let io = |error| ClusterError::Io { what: "target/kafka/format".to_owned(), error };
        let folder = self.folder.join("format");
        remove(&folder).map_err(io)?;
        fs::create_dir_all(&folder).map_err(io)?;
        let data = folder.join("data");
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\nlog.dirs={}\n\
             controller.quorum.voters=1@127.0.0.1:1\ncontroller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1\n",
            data.display()
        );
        let file = folder.join("server.properties");
        fs::write(&file, settings).map_err(io)?;
        let mut format = self.java(&[]);
        format.args(["kafka.tools.StorageTool", "format", "-t", &crate::kafka::node::uuid(), "-c"]);
        format.arg(&file);
        let said = output("running kafka.tools.StorageTool", format, Duration::from_secs(120))?;
        fs::rename(data.join("bootstrap.checkpoint"), self.first_records()).map_err(|error| {
            let text = [said.stdout, said.stderr].concat();
            let reason = tail(&String::from_utf8_lossy(&text), 5);
            ClusterError::refused("kafka.tools.StorageTool format", format!("{error}: {reason}"))
        })?;
        remove(&folder).map_err(io)
    }
}

/// The `java` of JAVA_HOME or of the path, and its version.
fn find_java() -> Result<(PathBuf, String), ClusterError> {
    let impossible = |reason: String| ClusterError::Impossible { reason };
    let java = match std::env::var_os("JAVA_HOME") {
        Some(home) if Path::new(&home).join("bin/java").exists() => {
            Path::new(&home).join("bin/java")
        }
        _ => PathBuf::from("java"),
    };
    let mut asked = Command::new(&java);
    asked.arg("-version");
    let said = output("running java", asked, Duration::from_secs(60)).map_err(|error| {
        impossible(format!(
            "Java 17 or later is needed ({error}); or name a cluster in PELTON_TEST_BOOTSTRAP"
        ))
    })?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let version = said.split('"').nth(1).unwrap_or("").to_owned();
    let major = version.split(['.', '-', '+']).next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major >= 17 => Ok((java, version)),
        _ => Err(impossible(format!("Java 17 or later is needed, not {version:?}"))),
    }
}

/// Cargo's target folder: the one that this program was built into.
pub(crate) fn target_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let tagged = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    tagged.map_or_else(usual, Path::to_path_buf)
}

/// Waits for its turn; the lock ends with the value, and with the process.
pub(crate) fn lock(file: &Path) -> Result<Flock<File>, ClusterError> {
    let open = File::create(file).map_err(ClusterError::io("target/kafka/lock"))?;
    Flock::lock(open, FlockArg::LockExclusive)
        .map_err(|(_, error)| ClusterError::refused("locking target/kafka/lock", error))
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}

/// Removes a file or a folder; one that is not there is as good as removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_poms() {
        assert_eq!(Distribution::version(), "4.3.1");
    }
}
