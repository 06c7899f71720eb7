//! How does a user put a worker together? Declare, configure, run.

mod builder;
mod handle;
mod input;
mod plan;
mod rules;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use pelton_engine::Ordering;

pub use builder::WorkerBuilder;
pub use handle::WorkerHandle;
pub use input::InputBuilder;

use crate::admin::{AdminError, AdminServer};
use crate::config::{Settings, is_open_to_all};
use crate::error::WorkerError;
use crate::kafka::KafkaPorts;
use crate::ports::Ports;
use crate::runtime::{self, StatusBoard, SteppedWorker, Subscription, WorkerParts};
use crate::state;
use crate::telemetry;

/// Starts building a worker: [`Worker::builder`].
///
/// ```
/// use pelton::{Context, Handler, HandlerError, Record, Worker};
///
/// struct Print;
/// impl Handler for Print {
///     async fn handle(&mut self, record: &Record<'_>, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
///         println!("{record:?}");
///         Ok(())
///     }
/// }
///
/// let mut app = Worker::builder("printer");
/// app.input("user_logins").handler(|_slot| Print);
/// // in main: app.run().await
/// ```
#[derive(Debug)]
pub struct Worker {
    parts: WorkerParts,
    settings: Settings,
    status: Arc<StatusBoard>,
    handle: WorkerHandle,
}

impl Worker {
    /// A builder for the application called `name`; `group_id` defaults to it.
    #[must_use]
    pub fn builder(name: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder::new(name.into())
    }

    /// Runs until `stop` ends, then shuts down gracefully. Handles no signals.
    ///
    /// Dropping the returned future does not stop the worker; end `stop` instead.
    ///
    /// # Errors
    ///
    /// If the worker can't start, can't go on, or does not end within `shutdown_timeout`.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        for (key, path) in self.settings.secret_files().filter(|(_, path)| is_open_to_all(path)) {
            tracing::warn!(key, path = %path.display(), "every user of this machine may read this secret; take that right from its file (chmod o-r, on Kubernetes defaultMode 0440)");
        }
        if let Some(directory) = &self.settings.state_dir {
            state::check_directory(directory)?;
        }
        let recorder = telemetry::install_recorder()
            .inspect_err(|error| tracing::warn!(%error, "metrics go elsewhere"))
            .ok();
        let admin = self.settings.admin.clone();
        let status: Arc<dyn crate::admin::Status> = Arc::clone(&self.status) as _;
        let (admin_stop, admin_stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = if admin.enabled {
            let bind = |address| AdminServer::bind(address, Arc::clone(&status), recorder.clone());
            let server = match bind(admin.listen) {
                Err(AdminError::InUse { listen }) if !self.settings.is_given("admin.listen") => {
                    tracing::warn!(%listen, "the admin endpoint's default port is taken; it takes another, set admin.listen to choose");
                    bind(SocketAddr::new(listen.ip(), 0))?
                }
                bound => bound?,
            };
            tracing::info!(address = %server.local_addr(), "admin endpoint");
            Some(tokio::spawn(server.serve(async move {
                // Ends when the sender is dropped, too.
                let _stopped = admin_stopped.await;
            })))
        } else {
            None
        };
        let result = self.work(stop).await;
        let _nobody_serves = admin_stop.send(()).is_err();
        if let Some(serving) = serving {
            serving.abort();
        }
        result
    }

    /// Its group.
    #[must_use]
    pub fn group_id(&self) -> &str {
        &self.parts.clients.group_id
    }

    /// The topics it reads, patterns left out.
    #[must_use]
    pub fn input_topics(&self) -> Vec<String> {
        let inputs = self.parts.plan.inputs.iter();
        inputs
            .filter_map(|input| match &input.subscription {
                Subscription::Topic(topic) => Some(topic.clone()),
                Subscription::Pattern(..) => None,
            })
            .collect()
    }

    /// Every topic it reads or writes: inputs, outputs, changelogs.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        let plan = &self.parts.plan;
        let outputs = plan.outputs.iter().map(|output| output.topic.to_string());
        let changelogs = plan.stores.iter().filter_map(|store| store.changelog.as_deref());
        self.input_topics()
            .into_iter()
            .chain(outputs)
            .chain(changelogs.map(str::to_owned))
            .collect()
    }

    /// What its inputs keep in order, the loosest of them. For test kits.
    #[doc(hidden)]
    #[must_use]
    pub fn ordering(&self) -> Ordering {
        let orderings = self.parts.plan.inputs.iter().map(|input| input.spec.ordering);
        let looseness = |ordering: &Ordering| match ordering {
            Ordering::Partition => 0,
            Ordering::Key { .. } => 1,
            _ => 2,
        };
        orderings.max_by_key(|of| (looseness(of), of.concurrency())).unwrap_or_default()
    }

    /// Puts the worker on ports of your own, to be stepped by you. Start-up checks are skipped.
    /// For test kits.
    ///
    /// # Panics
    ///
    /// If it is not called within a tokio runtime.
    #[must_use]
    pub fn on_ports(self, ports: Ports) -> SteppedWorker {
        SteppedWorker::new(self.parts, self.status, Arc::clone(self.handle.control()), ports)
    }

    /// What opens clients on Kafka as this worker would. For test kits.
    #[doc(hidden)]
    #[must_use]
    pub fn kafka_ports(&self) -> KafkaPorts {
        let inputs = self.parts.plan.inputs.iter();
        let subscription = inputs.map(|input| input.subscription.name().to_owned());
        KafkaPorts::new(self.parts.clients.clone(), subscription.collect())
    }

    async fn work(self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let limit = self.parts.plan.shutdown_timeout;
        let mut stop = std::pin::pin!(stop);
        let started = tokio::select! {
            biased;
            () = stop.as_mut() => return Ok(()), // nothing has been begun yet
            started = runtime::start(self.parts, self.status, self.handle.control()) => started,
        };
        let mut running = started?;
        tokio::select! {
            biased;
            ended = running.ended() => return ended,
            () = stop => {}
        }
        self.handle.shut_down();
        tokio::time::timeout(limit, running.ended()).await.unwrap_or_else(|_| {
            Err(WorkerError::ShutdownTimeout {
                limit,
                reason: "the clients did not close".to_owned(),
            })
        })
    }
}
