//! Where do the tokens of `OAUTHBEARER` come from? From the application, or from a file that
//! somebody keeps fresh.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Deserialize;

/// A token that says who the worker is, for some time.
///
/// Its `Debug` form leaves the token out.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use pelton::OauthToken;
///
/// let expires_at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
/// let token = OauthToken::new("eyJhbGciOi…", "login-counter", expires_at);
/// assert!(!format!("{token:?}").contains("eyJ"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OauthToken {
    pub(crate) token: String,
    pub(crate) principal: String,
    pub(crate) expires_at: SystemTime,
}

impl OauthToken {
    /// A token as the identity provider gave it; `principal` is whom it is for, as messages name
    /// it. Another is asked for when four fifths of its life are over.
    #[must_use]
    pub fn new(
        token: impl Into<String>,
        principal: impl Into<String>,
        expires_at: SystemTime,
    ) -> Self {
        Self { token: token.into(), principal: principal.into(), expires_at }
    }

    /// Milliseconds since 1970.
    pub(crate) fn expires_at_ms(&self) -> i64 {
        let since = self.expires_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for OauthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthToken")
            .field("principal", &self.principal)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Gives tokens, as often as it is asked.
#[derive(Clone)]
pub(crate) struct TokenSource(
    Arc<dyn Fn() -> BoxFuture<'static, Result<OauthToken, String>> + Send + Sync>,
);

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

impl TokenSource {
    /// What the application gives.
    pub(crate) fn of<F, E>(provider: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<OauthToken, E>> + Send + 'static,
        E: fmt::Display,
    {
        Self(Arc::new(move || {
            let asked = provider();
            async move { asked.await.map_err(|error| error.to_string()) }.boxed()
        }))
    }

    /// A JSON web token in a file, read anew each time.
    pub(crate) fn file(path: PathBuf) -> Self {
        Self::of(move || {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || read(&path));
            async move { read.await.map_err(|error| error.to_string())? }
        })
    }

    pub(crate) async fn token(&self) -> Result<OauthToken, String> {
        (self.0)().await
    }
}

fn read(path: &Path) -> Result<OauthToken, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the token's file {shown} can't be read: {error}"))?;
    claims(text.trim()).map_err(|problem| {
        format!("the file {shown} holds no JSON web token: {problem}; oauth_token_file needs one")
    })
}

/// What a token says of itself. It is not verified: that is Kafka's affair.
fn claims(token: &str) -> Result<OauthToken, &'static str> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
        #[serde(default)]
        sub: String,
    }
    let payload = token.split('.').nth(1).ok_or("it has no three parts")?;
    let payload = URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .map_err(|_| "its second part is no base64")?;
    // serde's own words could quote the token.
    let Claims { exp, sub } =
        serde_json::from_slice(&payload).map_err(|_| "its claims have no expiry (exp)")?;
    let since = Duration::try_from_secs_f64(exp).map_err(|_| "its expiry (exp) is no time")?;
    let expires_at = UNIX_EPOCH.checked_add(since).ok_or("its expiry (exp) is no time")?;
    Ok(OauthToken::new(token, if sub.is_empty() { "worker" } else { &sub }, expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.sig", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_whom_it_is_for_and_until_when() {
        let token =
            claims(&jwt(r#"{"sub":"system:serviceaccount:a:b","exp":1900000000,"aud":["k"]}"#));
        let token = token.unwrap();
        assert_eq!(token.principal, "system:serviceaccount:a:b");
        assert_eq!(token.expires_at_ms(), 1_900_000_000_000);
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_quoted() {
        for canary in ["canary", "can.ary", &jwt("{\"canary\":1}"), &jwt("{\"exp\":-1}"), "..", ""]
        {
            let problem = claims(canary).unwrap_err();
            assert!(!problem.contains("canary"), "{problem}");
        }
    }

    /// A file that anybody may have written.
    fn any_token() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            any::<f64>().prop_map(|n| n.to_string()),
            any::<u64>().prop_map(|n| n.to_string())
        ];
        let claims = prop_oneof![
            number.prop_map(|exp| jwt(&format!("{{\"exp\":{exp},\"sub\":\"canary\"}}"))),
            "\\PC{0,60}".prop_map(|claims| jwt(&claims)),
        ];
        prop_oneof![claims, ".{0,80}", "[A-Za-z0-9_=-]{0,30}\\.[A-Za-z0-9_=-]{0,60}\\.?"]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_a_token_with_a_time_or_is_refused_without_being_quoted(token in any_token()) {
            match claims(&token) {
                Ok(read) => prop_assert!(read.expires_at_ms() >= 0 && !read.principal.is_empty()),
                Err(problem) => prop_assert!(!problem.contains("canary")),
            }
        }
    }
}
