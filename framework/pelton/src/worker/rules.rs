//! Which rules has an input in the end? Its program's, and over them what the settings say.

use std::time::Duration;

use pelton_engine::Ordering;

use crate::batch::Batches;
use crate::config::{ConfigError, InputSettings, Settings, as_variable, nearest};
use crate::output::MAX_DEATHS;
use crate::runtime::{DeadLetterRoute, InputSpec, OnInvalid, Subscription};

/// Which of `inputs` do the settings call `name`?
///
/// # Errors
///
/// If it is none of them: its rules would hold for nothing, in silence.
pub(super) fn input_called(
    name: &str,
    settings: &Settings,
    inputs: &[&Subscription],
) -> Result<usize, ConfigError> {
    if let Some(input) = inputs.iter().position(|input| input.name() == name) {
        return Ok(input);
    }
    let origin = settings.origin_of_input(name);
    let mut alike = inputs.iter().enumerate().filter(|(_, input)| {
        // A variable's name has neither `-` nor `.`, and one case.
        origin.is_text() && as_variable(input.name()) == name
    });
    if let (Some((input, _)), None) = (alike.next(), alike.next()) {
        return Ok(input);
    }
    let names = || inputs.iter().map(|input| input.name());
    let list = names().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let pattern = inputs.iter().find(|input| input.matches(name));
    let hint = match (pattern, nearest(name, names())) {
        (Some(pattern), _) => {
            format!("it is read by the input \"{}\": write that; ", pattern.name())
        }
        (None, Some(near)) => format!("did you mean \"{near}\"? "),
        (None, None) => String::new(),
    };
    Err(ConfigError::UnknownKey {
        origin,
        key: format!("inputs.{name}"),
        way_out: format!("this worker has no input \"{name}\"; {hint}its inputs are {list}"),
    })
}

/// Lays what is given over the program's rules.
///
/// # Errors
///
/// The key of what does not fit them, and why.
pub(super) fn lay_over(given: &InputSettings, spec: &mut InputSpec) -> Result<(), Misfit> {
    let InputSettings { dead_letters, batch, .. } = given;
    if let Some(concurrency) = given.concurrency {
        spec.ordering = match spec.ordering {
            Ordering::Key { .. } => Ordering::key(concurrency),
            Ordering::Unordered { .. } => Ordering::unordered(concurrency),
            _ => {
                return Err((
                    "concurrency",
                    "the program keeps all records of a partition in order (Ordering::Partition), so \
                 one is handled at a time; which order is kept is the program's to say, since its \
                 handler relies on it. Remove it, or let the program say Ordering::key(…)",
                ));
            }
        };
    }
    if let Some(limit) = given.attempt_timeout {
        spec.attempt_timeout = Some(limit).filter(|limit| *limit > Duration::ZERO);
    }
    spec.retry = given.retry.over(spec.retry);
    spec.breaker = given.breaker.over(spec.breaker);
    let route = spec.dead_letters.take();
    let topic = dead_letters.topic.as_deref().map(Into::into);
    let own = route.as_ref().map(|route| route.limit).unwrap_or_default();
    let limit = dead_letters.over(own);
    let own_deaths = route.as_ref().map_or(MAX_DEATHS, |route| route.max_deaths);
    let max_deaths = dead_letters.max_deaths.unwrap_or(own_deaths);
    spec.dead_letters = topic
        .or_else(|| route.map(|route| route.topic))
        .map(|topic| DeadLetterRoute { topic, limit, max_deaths });
    if spec.dead_letters.is_none() {
        let way_out = "the input has no topic for dead letters; give `dead_letters.topic` too, or \
                       remove it";
        for (key, is_given) in [
            ("dead_letters.at_most_in_a_row", dead_letters.at_most_in_a_row.is_some()),
            ("dead_letters.at_most_of_a_thousand", dead_letters.at_most_of_a_thousand.is_some()),
            ("dead_letters.max_deaths", dead_letters.max_deaths.is_some()),
        ] {
            if is_given {
                return Err((key, way_out));
            }
        }
    }
    if let Some(on_invalid) = given.on_invalid {
        if on_invalid == OnInvalid::DeadLetter && spec.dead_letters.is_none() {
            let way_out = "the input has no topic for dead letters; give `dead_letters.topic` too, \
                           or write \"stop\" or \"skip\"";
            return Err(("on_invalid", way_out));
        }
        spec.on_invalid = Some(on_invalid);
    }
    let one_by_one = "the program handles the records of this input one by one; remove it, or let \
                      the program say .batch_handler(…)";
    for (key, is_given) in [
        ("batch.records", batch.records.is_some()),
        ("batch.bytes", batch.bytes.is_some()),
        ("batch.linger", batch.linger.is_some()),
    ] {
        if is_given && spec.batches.is_none() {
            return Err((key, one_by_one));
        }
    }
    spec.batches = spec.batches.map(|own| {
        let count = |given: u64, own| usize::try_from(given).unwrap_or(own);
        Batches {
            records: batch
                .records
                .map_or(own.records, |records| count(records.into(), own.records)),
            bytes: batch.bytes.map_or(own.bytes, |bytes| count(bytes.as_u64(), usize::MAX)),
            linger: batch.linger.unwrap_or(own.linger),
        }
    });
    Ok(())
}

/// Which key does not fit the program, and why.
pub(super) type Misfit = (&'static str, &'static str);
