//! What can go wrong with the endpoint?

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// The endpoint can't listen.
///
/// ```
/// use pelton::admin::AdminError;
///
/// let error = AdminError::InUse { listen: ([127, 0, 0, 1], 9464).into() };
/// assert!(error.to_string().contains("PELTON__ADMIN__LISTEN"));
/// assert_eq!(error.code(), "PLT-0131");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what the message says they are")]
pub enum AdminError {
    /// Another process, often another worker, listens there.
    #[error(
        "PLT-0131: the admin endpoint can't listen on {listen}: another process does, perhaps \
         another worker; give `admin.listen` another port (0 takes any free one), as in \
         PELTON__ADMIN__LISTEN=127.0.0.1:0, or set `admin.enabled = false`"
    )]
    InUse { listen: SocketAddr },
    /// The address is not this machine's, or the port needs rights.
    #[error(
        "PLT-0132: the admin endpoint can't listen on {listen}: {source}; give `admin.listen` an \
         address of this machine and a port above 1023"
    )]
    NoListener { listen: SocketAddr, source: io::Error },
}

impl AdminError {
    /// The stable code, as in `PLT-0131`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "PLT-0131",
            Self::NoListener { .. } => "PLT-0132",
        }
    }
}
