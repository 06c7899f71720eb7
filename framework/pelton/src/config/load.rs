//! How do file, environment and flags become settings?

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ConfigError;
use super::fields::fields_of;
use super::flags::Flags;
use super::nearest::nearest;
use super::origin::{Origin, Origins};
use super::reload::Source;
use super::settings::Settings;
use super::tree::Tree;
use super::{effective, environment, file, flags, inputs, read, refused, secret_file};
use crate::admin::ask;

/// A worker's settings and its application's own.
///
/// ```
/// use pelton::config::{Flags, load_from};
/// use std::collections::BTreeMap;
///
/// #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// struct LoginCounter {
///     input_topic: String,
/// }
/// impl Default for LoginCounter {
///     fn default() -> Self {
///         Self { input_topic: "user_logins".to_owned() }
///     }
/// }
///
/// let environment = BTreeMap::from([
///     ("PELTON__LOGIN_COUNTER__INPUT_TOPIC".to_owned(), "logins".to_owned()),
/// ]);
/// let loaded = load_from::<LoginCounter>("login-counter", &Flags::default(), &environment)?;
/// assert_eq!(loaded.app.input_topic, "logins");
/// assert!(loaded.effective().contains("environment variable PELTON__LOGIN_COUNTER__INPUT_TOPIC"));
/// # Ok::<(), pelton::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded<A> {
    /// What every worker has. Not yet [checked](Settings::check).
    pub settings: Settings,
    /// The application's own section: the table of its name, `-` written as `_`.
    pub app: A,
    section: String,
}

impl<A: Serialize> Loaded<A> {
    /// Each setting with its value and where the value came from, one a line, secrets hidden:
    /// what `--print-config` prints.
    #[must_use]
    pub fn effective(&self) -> String {
        effective::lines(&self.settings, &self.section, &self.app)
    }
}

/// Loads the settings of `application` from `flags`, this process's environment, and the file
/// the flags name. Flags win over the environment, the environment over the file.
///
/// `A` is the application's own section; what nobody gives keeps its value of `A::default()`.
/// An application without settings takes `()`.
///
/// With `--print-config` it prints [`Loaded::effective`] to stdout and ends the process, as
/// `--help` does; with `--health` it asks the worker that runs with these settings how it is and
/// ends the process with 0 if it is well, with 1 otherwise.
///
/// # Errors
///
/// When a source can't be read, a key is unknown, or a value is of the wrong type. Whether the
/// values hold together is for [`Settings::check`] to say.
pub fn load<A>(application: &str, flags: &Flags) -> Result<Loaded<A>, ConfigError>
where
    A: DeserializeOwned + Default + Serialize,
{
    let loaded = environment::of_process().and_then(|own| load_from(application, flags, &own));
    if let Some(probe) = &flags.health {
        match loaded.map_err(|e| e.to_string()).and_then(|l| ask(&l.settings.admin, probe)) {
            Ok(answer) => end(&mut std::io::stdout(), &format!("{answer}\n"), 0),
            Err(problem) => end(&mut std::io::stderr(), &format!("{problem}\n"), 1),
        }
    }
    let loaded: Loaded<A> = loaded?;
    if flags.print_config {
        end(&mut std::io::stdout(), &loaded.effective(), 0);
    }
    Ok(loaded)
}

/// Says `text` and ends the process with `code`, or with 1 where nobody takes it.
#[expect(clippy::exit, reason = "what --print-config and --health ask for")]
fn end(to: &mut dyn Write, text: &str, code: i32) -> ! {
    let said = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    std::process::exit(if said.is_err() { 1 } else { code })
}

/// [`load`] with `environment` for this process's environment.
///
/// # Errors
///
/// As [`load`].
pub fn load_from<A>(
    application: &str,
    flags: &Flags,
    environment: &BTreeMap<String, String>,
) -> Result<Loaded<A>, ConfigError>
where
    A: DeserializeOwned + Default + Serialize,
{
    let section = section_of(application)?;
    let mut tree = match &flags.config {
        Some(path) => normal(file::read(path)?)?,
        None => Tree::empty(),
    };
    let flagged = normal(flags::read(flags)?)?;
    let mut from_environment = normal(environment::read(environment)?)?;
    inputs::spell_as(&mut from_environment, [&tree, &flagged]);
    tree.overlay(from_environment);
    tree.overlay(flagged);
    if let Some(mut kafka) = tree.take("kafka") {
        secret_file::resolve(&mut kafka)?;
        tree.set(&["kafka"], kafka);
    }

    let mut origins = Origins::default();
    tree.note_origins("", &mut origins);
    refused::check(&tree, &section)?;
    let own = tree.take(&section);
    let app = read_app(own.clone(), &section, &mut origins)?;
    let mut settings: Settings =
        read::read(&tree, "").map_err(|error| or_the_section(error, &section))?;
    settings.origins = origins;
    settings.source = Some(Source::new(application, flags, environment, &section, own, &app));
    Ok(Loaded { settings, app, section })
}

/// `[kafka]` is flat in every source: its keys have dots of their own.
fn normal(mut tree: Tree) -> Result<Tree, ConfigError> {
    if let Some(kafka) = tree.take("kafka") {
        let mut kafka = kafka.flattened();
        secret_file::nest(&mut kafka)?;
        tree.set(&["kafka"], kafka);
    }
    Ok(tree)
}

fn read_app<A>(given: Option<Tree>, section: &str, origins: &mut Origins) -> Result<A, ConfigError>
where
    A: DeserializeOwned + Default + Serialize,
{
    let Some(given) = given else {
        return Ok(A::default());
    };
    let defaults = serde_json::to_value(A::default()).unwrap_or_default();
    let mut tree = match defaults {
        serde_json::Value::Object(_) => Tree::from_json(defaults, &Origin::Default),
        _ => Tree::empty(),
    };
    tree.overlay(given);
    read::read_noting_secrets(&tree, section, origins)
}

/// The table that holds the application's own settings.
fn section_of(application: &str) -> Result<String, ConfigError> {
    let section = application.to_ascii_lowercase().replace('-', "_");
    let refuse = |reason: &str| {
        Err(ConfigError::ApplicationName {
            name: application.to_owned(),
            reason: reason.to_owned(),
        })
    };
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if section.is_empty() || !section.chars().all(legal) || section.contains("__") {
        return refuse("it takes letters, digits and single `-` or `_`");
    }
    if fields_of::<Settings>().contains(&section.as_str()) {
        return refuse("a setting of every worker has this name");
    }
    Ok(section)
}

/// A key that no setting resembles may be the application's section, misspelt.
fn or_the_section(error: ConfigError, section: &str) -> ConfigError {
    match error {
        ConfigError::UnknownKey { origin, key, .. }
            if !key.contains('.') && nearest(&key, [section]).is_some() =>
        {
            let way_out = format!("did you mean `{section}`, this application's section?");
            ConfigError::UnknownKey { origin, key, way_out }
        }
        other => other,
    }
}
