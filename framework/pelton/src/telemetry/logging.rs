//! Where do log lines go? To stderr, as text or JSON, through one filter.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;

use super::error::TelemetryError;
use crate::config::{LogFormat, LogSettings, nearest};

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

static STATE: Mutex<State> = Mutex::new(State::Unset);

/// What is known of this process's log lines.
enum State {
    Unset,
    /// They go through Pelton's subscriber; its filter is changed by this.
    Ours(Box<dyn Fn(EnvFilter) -> bool + Send>),
    /// The program has a subscriber of its own.
    Foreign,
}

/// Sends this process's log lines to stderr, as `settings` say.
///
/// The first call wins; a later one, and a program that has a subscriber of its own, changes
/// nothing and is no error.
///
/// # Errors
///
/// When the filter can't be read.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let filter = parse(&settings.filter)?;
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if !matches!(*state, State::Unset) {
        return Ok(());
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        // A line that can't be written is dropped: complaining of it on stderr would panic.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    // The only failure is a subscriber that is already there: then the program's own one stays.
    let (ours, change): (_, Box<dyn Fn(EnvFilter) -> bool + Send>) = match settings.format {
        LogFormat::Text => {
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            (lines.try_init(), Box::new(move |filter| handle.reload(filter).is_ok()))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            (lines.try_init(), Box::new(move |filter| handle.reload(filter).is_ok()))
        }
    };
    *state = if ours.is_ok() { State::Ours(change) } else { State::Foreign };
    Ok(())
}

/// Filters this process's log lines by `filter` from now on. Returns whether it does: where
/// [`init`] did not set the lines up, nothing changes.
///
/// # Errors
///
/// When the filter can't be read.
pub fn set_filter(filter: &str) -> Result<bool, TelemetryError> {
    let filter = parse(filter)?;
    match &*STATE.lock().unwrap_or_else(PoisonError::into_inner) {
        State::Ours(change) => {
            let changed = change(filter);
            log::set_max_level(max_level());
            Ok(changed)
        }
        State::Unset | State::Foreign => Ok(false),
    }
}

/// What the filter lets through at most, for libraries that log by the `log` crate.
fn max_level() -> log::LevelFilter {
    match tracing::level_filters::LevelFilter::current().into_level() {
        None => log::LevelFilter::Off,
        Some(tracing::Level::ERROR) => log::LevelFilter::Error,
        Some(tracing::Level::WARN) => log::LevelFilter::Warn,
        Some(tracing::Level::INFO) => log::LevelFilter::Info,
        Some(tracing::Level::DEBUG) => log::LevelFilter::Debug,
        Some(tracing::Level::TRACE) => log::LevelFilter::Trace,
    }
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    check_filter(filter).map_err(TelemetryError::Filter)?;
    EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter(error.to_string()))
}

/// Says what is wrong with a filter.
///
/// A bare word that is no level would filter by a module of that name, which a misspelt level
/// never means.
pub(crate) fn check_filter(filter: &str) -> Result<(), String> {
    let form = "write a level (error, warn, info, debug, trace) or several per module, as in \
                \"info,pelton=debug\"";
    if filter.trim().is_empty() {
        return Err(format!("it is empty; {form}"));
    }
    for part in filter.split(',').map(str::trim) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        let known = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
        // `[span{field=value}]` has a grammar of its own, left to the parser below.
        if known || part.contains(['[', ']', '{', '}', '"']) {
            continue;
        }
        return Err(match nearest(level, LEVELS) {
            Some(near) => format!("no such level; did you mean \"{near}\"?"),
            None => format!("no such level; {form}"),
        });
    }
    EnvFilter::try_new(filter).map(drop).map_err(|_| format!("it can't be read; {form}"))
}

#[cfg(test)]
mod tests {
    use super::{check_filter, init, set_filter};
    use crate::config::LogSettings;

    #[test]
    fn a_filter_is_a_level_or_levels_per_module() {
        for good in ["info", "WARN", "info,pelton=debug", "off", "pelton[span{id=1}]=trace"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for (bad, problem) in [
            ("", "it is empty"),
            ("inof", "did you mean \"info\"?"),
            ("pelton=verbose", "no such level; write a level"),
            ("info,,", "no such level"),
        ] {
            let error = check_filter(bad).unwrap_err();
            assert!(error.contains(problem), "{bad}: {error}");
        }
    }

    #[test]
    fn a_second_call_changes_nothing() {
        init(&LogSettings::default()).unwrap();
        init(&LogSettings::default()).unwrap();
    }

    #[test]
    fn a_filter_can_be_changed_while_the_process_runs() {
        init(&LogSettings::default()).unwrap();
        let enabled = || tracing::enabled!(target: "some_module", tracing::Level::DEBUG);
        assert!(!enabled());
        assert!(set_filter("info,some_module=debug").unwrap());
        assert!(enabled());
        assert_eq!(log::max_level(), log::LevelFilter::Debug); // libraries that use `log`
        assert!(set_filter("inof").is_err());
        assert!(enabled());
        assert!(set_filter("info").unwrap());
        assert!(!enabled());
    }
}
