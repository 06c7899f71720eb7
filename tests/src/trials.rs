//! How does a test binary tell that Kafka can't run here? Its tests are ignored, and say why.
//!
//! For test binaries with `harness = false` and libtest-mimic's `run`.

use libtest_mimic::{Completion, Failed, Trial};

use crate::{ClusterError, KafkaCluster};

/// A test on real Kafka. Where that can't run the test is reported as ignored, with the reason;
/// with `PELTON_TEST_KAFKA=require` it fails.
///
/// ```
/// use pelton_tests::{Cluster, KafkaCluster, trials};
///
/// let trial = trials::on_kafka("a_topic_is_created", || {
///     let kafka = KafkaCluster::shared(1)?;
///     kafka.create_topic(&KafkaCluster::unique("logins"), 3)?;
///     Ok(())
/// });
/// assert_eq!(trial.name(), "a_topic_is_created");
/// ```
#[must_use]
pub fn on_kafka(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, || match KafkaCluster::available() {
        Err(ClusterError::Impossible { reason }) if !KafkaCluster::is_required() => {
            Ok(Completion::ignored_with(reason))
        }
        Err(error) => Err(Failed::from(error)),
        Ok(()) => test().map(|()| Completion::Completed),
    })
}

/// As [`on_kafka`], for a test that kills, freezes or stops nodes: ignored too where
/// `PELTON_TEST_BOOTSTRAP` names a cluster, whose nodes are not ours.
///
/// ```
/// use pelton_tests::{KafkaCluster, trials};
///
/// let trial = trials::on_our_own_nodes("a_killed_node_comes_back", || {
///     let kafka = KafkaCluster::start(1)?;
///     kafka.kill(1)?;
///     kafka.start_node(1)?;
///     kafka.wait_until_ready()?;
///     Ok(())
/// });
/// assert_eq!(trial.name(), "a_killed_node_comes_back");
/// ```
#[must_use]
pub fn on_our_own_nodes(
    name: &str,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    if KafkaCluster::is_elsewhere() {
        let reason = "the nodes of PELTON_TEST_BOOTSTRAP are not ours";
        return Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)));
    }
    on_kafka(name, test)
}
