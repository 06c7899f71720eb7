//! Where do log lines go? To stderr, as text or JSON, through one filter.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;

use super::error::TelemetryError;
use crate::config::{LogFormat, LogSettings, nearest};

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

static DONE: Mutex<bool> = Mutex::new(false);

/// Sends this process's log lines to stderr, as `settings` say.
///
/// The first call wins; a later one, and a program that has a subscriber of its own, changes
/// nothing and is no error.
///
/// # Errors
///
/// When the filter can't be read.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    check_filter(&settings.filter).map_err(TelemetryError::Filter)?;
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if *done {
        return Ok(());
    }
    *done = true;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        // A line that can't be written is dropped: complaining of it on stderr would panic.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    // The only failure is a subscriber that is already there: then the program's own one stays.
    let _kept = match settings.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
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
    use super::{check_filter, init};
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
}
