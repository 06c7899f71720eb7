//! What can go wrong before a worker can be seen?

use thiserror::Error;

/// Logs or metrics can't be set up. Trying again doesn't help.
///
/// ```
/// use pelton::config::LogSettings;
/// use pelton::telemetry;
///
/// let mut log = LogSettings::default();
/// log.filter = "inof".to_owned();
/// let error = telemetry::init_logging(&log).unwrap_err();
/// assert!(error.to_string().contains("did you mean \"info\"?"));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The program has installed a metrics recorder of its own.
    #[error(
        "PLT-0121: this process has a metrics recorder that is not Pelton's; Pelton's metrics go \
         to that one, so serve them from there, or install none before the worker starts"
    )]
    RecorderTaken,
    /// The thread that keeps the metrics' memory bounded can't be started.
    #[error("PLT-0122: a thread for metrics can't be started: {0}; raise the process's limits")]
    NoThread(#[source] std::io::Error),
    /// The filter of `log.filter` makes no sense.
    #[error("PLT-0123: the log filter can't be used: {0}")]
    Filter(String),
}

impl TelemetryError {
    /// The stable code, as in `PLT-0121`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::RecorderTaken => "PLT-0121",
            Self::NoThread(_) => "PLT-0122",
            Self::Filter(_) => "PLT-0123",
        }
    }
}
