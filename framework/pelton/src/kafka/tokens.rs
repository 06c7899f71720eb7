//! How do all clients of a worker get a fresh token in time? One task asks for it and hands it to
//! each.
//!
//! librdkafka would ask on the thread that polls a client: the poll loop's, which may not wait, or
//! nobody's, for a client that nobody polls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};

use crate::error::WorkerError;
use crate::kafka::ffi::set_token;
use crate::oauth::{OauthToken, TokenSource};
use crate::ports::Host;
use crate::refusal::Refusal;
use crate::refusals::Refusals;

/// A source that failed is asked again so soon.
const RETRY: Duration = Duration::from_secs(1);

/// At start-up it may fail for so long.
const PATIENCE: Duration = Duration::from_secs(4);

/// Looks up so often whether the worker is still there.
const LOOK: Duration = Duration::from_secs(10);

/// Hands a token to a client; false once the client is gone.
type Taker = Box<dyn Fn(&OauthToken) -> bool + Send + Sync>;

/// The token of the moment, and who uses it.
#[derive(Debug)]
pub(crate) struct Tokens {
    source: TokenSource,
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    current: Option<OauthToken>,
    takers: Vec<Taker>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("takers", &self.takers.len()).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(source: TokenSource) -> Arc<Self> {
        Arc::new(Self { source, users: Mutex::default() })
    }

    /// Waits for a first token and keeps it fresh from then on, as long as `self` is in use.
    ///
    /// # Errors
    ///
    /// If there is none within some seconds.
    pub(crate) async fn start(
        self: &Arc<Self>,
        host: &Arc<dyn Host>,
        refusals: &Arc<Refusals>,
        bootstrap_servers: &str,
    ) -> Result<(), WorkerError> {
        let deadline = host.now() + PATIENCE;
        let mut wait = loop {
            match self.renew(&**host).await {
                Ok(wait) => break wait,
                Err(reason) if host.now() >= deadline => {
                    return Err(Refusal::Login.error(bootstrap_servers, &reason));
                }
                Err(reason) => tracing::warn!(reason, "no token yet"),
            }
            host.sleep(RETRY).await;
        };
        let (tokens, host, refusals) =
            (Arc::downgrade(self), Arc::clone(host), Arc::clone(refusals));
        tokio::spawn(async move {
            while rest(&*host, wait, &tokens).await {
                let Some(tokens) = tokens.upgrade() else {
                    return;
                };
                wait = match tokens.renew(&*host).await {
                    Ok(wait) => {
                        tracing::debug!("a fresh token");
                        wait
                    }
                    Err(reason) => {
                        refusals.tell(Refusal::Login, &reason);
                        RETRY
                    }
                };
            }
        });
        Ok(())
    }

    /// Gives a client the token of the moment, and those that follow.
    pub(crate) fn introduce(&self, taker: impl Fn(&OauthToken) -> bool + Send + Sync + 'static) {
        let mut users = self.lock();
        if let Some(token) = &users.current {
            taker(token);
        }
        users.takers.push(Box::new(taker));
    }

    /// The token of the moment.
    pub(crate) fn current(&self) -> Option<OauthToken> {
        self.lock().current.clone()
    }

    /// Asks for a token and hands it out. Returns when to ask for the next one.
    async fn renew(&self, host: &dyn Host) -> Result<Duration, String> {
        let token = self.source.token().await?;
        let left = token.expires_at_ms() - host.wall_clock_ms();
        let left = u64::try_from(left).ok().filter(|left| *left > 0);
        let left = left.ok_or_else(|| format!("the token for {} has expired", token.principal))?;
        let mut users = self.lock();
        users.takers.retain(|taker| taker(&token));
        users.current = Some(token);
        Ok((Duration::from_millis(left) * 4 / 5).max(Duration::from_secs(1)))
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a client a token; what it does not take is said.
pub(crate) fn give<C: ClientContext>(client: &Client<C>, token: &OauthToken) {
    if let Err(reason) = set_token(client, token) {
        tracing::error!(reason, "a client does not take the token");
    }
}

/// Gives a consumer its tokens as long as it lives.
pub(crate) fn introduce<C: ConsumerContext + 'static>(
    tokens: &Tokens,
    consumer: &Arc<BaseConsumer<C>>,
) {
    let consumer = Arc::downgrade(consumer);
    tokens.introduce(move |token| {
        let consumer = consumer.upgrade();
        consumer.inspect(|consumer| give(consumer.client(), token)).is_some()
    });
}

/// Waits; false if the worker has gone meanwhile.
async fn rest(host: &dyn Host, wait: Duration, tokens: &Weak<Tokens>) -> bool {
    let until = host.now() + wait;
    while host.now() < until {
        host.sleep(LOOK.min(until.since(host.now()))).await;
        if tokens.strong_count() == 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::host::Machine;

    fn source(asked: &Arc<AtomicU64>, expires_at: u64) -> TokenSource {
        let asked = Arc::clone(asked);
        TokenSource::of(move || {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            let expires_at = UNIX_EPOCH + Duration::from_secs(expires_at);
            std::future::ready(Ok::<_, String>(OauthToken::new(
                number.to_string(),
                "w",
                expires_at,
            )))
        })
    }

    #[tokio::test]
    async fn every_client_gets_the_token_of_the_moment_and_the_next_and_a_dead_one_is_forgotten() {
        let asked = Arc::new(AtomicU64::new(0));
        let tokens = Tokens::new(source(&asked, 4_000_000_000));
        let wait = tokens.renew(&Machine::new()).await.unwrap();
        assert!(wait > Duration::from_secs(3_600));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let client = Arc::new(());
        let (told, alive) = (Arc::clone(&taken), Arc::downgrade(&client));
        tokens.introduce(move |token| {
            told.lock().unwrap().push(token.token.clone());
            alive.strong_count() > 0
        });
        tokens.renew(&Machine::new()).await.unwrap();
        drop(client);
        tokens.renew(&Machine::new()).await.unwrap();
        tokens.renew(&Machine::new()).await.unwrap();
        assert_eq!(*taken.lock().unwrap(), ["0", "1", "2"]);
    }

    #[tokio::test]
    async fn an_expired_token_is_handed_to_nobody() {
        let tokens = Tokens::new(source(&Arc::default(), 1_000));
        let problem = tokens.renew(&Machine::new()).await.unwrap_err();
        assert!(problem.contains("expired"), "{problem}");
        assert_eq!(tokens.current(), None);
    }
}
