//! Counts successful logins per user.
//!
//! Reads logins (`{"user": "alice", "status": "success" | "failure", "ip": "…", "at": "…"}`,
//! keyed by user), keeps a total per user in the store `totals`, and emits each new total
//! (`{"user": "alice", "total": 3}`, keyed by user).

use std::borrow::Cow;

use pelton::{
    Context, Handler, HandlerError, OnInvalid, Output, Record, Store, Worker, WorkerBuilder,
};
use serde::{Deserialize, Serialize};

/// The worker's own settings: `[login_counter]` in the file, `PELTON__LOGIN_COUNTER__…` in the
/// environment.
///
/// ```
/// use login_counter::LoginCounterSettings;
///
/// let settings = LoginCounterSettings::default();
/// assert_eq!(settings.input_topic, "user_logins");
/// assert_eq!(settings.output_topic, "login_totals");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginCounterSettings {
    /// Where logins are read. Default `user_logins`.
    pub input_topic: String,
    /// Where totals are written. Default `login_totals`.
    pub output_topic: String,
    /// What becomes of a record that is no login: `stop` (the default) or `skip`.
    pub on_invalid: OnInvalid,
}

impl Default for LoginCounterSettings {
    fn default() -> Self {
        Self {
            input_topic: "user_logins".to_owned(),
            output_topic: "login_totals".to_owned(),
            on_invalid: OnInvalid::Stop,
        }
    }
}

/// A login attempt, borrowed from its record where it can be.
#[derive(Debug, Deserialize)]
struct Login<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    status: LoginStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LoginStatus {
    Success,
    Failure,
}

#[derive(Debug, Serialize)]
struct Total<'a> {
    user: &'a str,
    total: u64,
}

/// The handler: one store, one output.
///
/// ```
/// use login_counter::{LoginCounterSettings, app};
/// let builder = app(&LoginCounterSettings::default());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CountLogins {
    /// Successful logins by user.
    pub totals: Store<str, u64>,
    /// Where each new total goes.
    pub out: Output,
}

impl Handler for CountLogins {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let login: Login<'_> = record.json()?;
        if login.status == LoginStatus::Success {
            let user = &*login.user;
            let total = ctx.update(self.totals, user, |n| n.unwrap_or(0) + 1)?;
            ctx.emit(self.out, user, &Total { user, total })?;
        }
        Ok(())
    }
}

/// The worker, ready to be configured and run.
#[must_use]
pub fn app(settings: &LoginCounterSettings) -> WorkerBuilder {
    let mut app = Worker::builder("login-counter");
    let totals = app.store("totals");
    let out = app.output(&settings.output_topic);
    app.input(&settings.input_topic)
        .on_invalid(settings.on_invalid)
        .handler(move |_slot| CountLogins { totals, out });
    app
}
