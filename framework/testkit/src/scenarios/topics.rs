//! What is there to know about topics?

use futures::FutureExt;
use pelton::TopicPartition;
use pelton::ports::{TopicIdentity, TopicSpec};

use super::Scenario;
use super::place::{Failure, Played};
use super::stage::Stage;
use super::writer::record;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_topic_has_its_partitions_and_an_id_and_a_missing_one_has_none",
        facts: &[
            "partitions: Some(3), None",
            "the id: known, the same when asked again",
            "another topic's id: another",
            "a missing topic: Missing",
        ],
        run: |stage| identity(stage).boxed_local(),
    },
    Scenario {
        name: "a_topic_is_created_once",
        facts: &["New", "Existed", "partitions: Some(2)"],
        run: |stage| create(stage).boxed_local(),
    },
    Scenario {
        name: "a_log_tells_its_first_offset_and_its_end",
        facts: &["empty: (0, 0)", "of five records: (0, 5)", "of a missing partition: an error"],
        run: |stage| ends(stage).boxed_local(),
    },
    Scenario {
        name: "a_time_has_the_offset_of_the_first_record_not_before_it",
        facts: &["before all: 0", "between: 1", "at the second: 1", "after all: 3"],
        run: |stage| times(stage).boxed_local(),
    },
    Scenario {
        name: "a_topic_made_anew_has_another_id_and_an_empty_log",
        facts: &["another id: true", "offsets: (0, 0)"],
        run: |stage| made_anew(stage).boxed_local(),
    },
];

async fn identity(stage: &Stage<'_>) -> Played {
    let (one, other) = (stage.topic(3).await?, stage.topic(1).await?);
    let missing = stage.place.unique("missing");
    let process = stage.process()?;
    let admin = process.admin()?;
    let (there, nowhere) = (admin.partitions(&one).await?, admin.partitions(&missing).await?);
    stage.fact(format!("partitions: {there:?}, {nowhere:?}"));
    let id = admin.identity(&one).await?;
    let again = admin.identity(&one).await?;
    let known =
        if matches!(id, TopicIdentity::There { id: Some(_) }) { "known" } else { "not known" };
    let same = if id == again { "the same" } else { "another" };
    stage.fact(format!("the id: {known}, {same} when asked again"));
    let other = admin.identity(&other).await?;
    stage.fact(format!("another topic's id: {}", if id == other { "the same" } else { "another" }));
    stage.fact(format!("a missing topic: {:?}", admin.identity(&missing).await?));
    Ok(())
}

async fn create(stage: &Stage<'_>) -> Played {
    let process = stage.process()?;
    let admin = process.admin()?;
    let name = stage.place.unique("topic");
    for partitions in [2, 5] {
        let spec = TopicSpec { name: name.clone(), partitions, settings: Vec::new() };
        stage.fact(format!("{:?}", admin.create(&spec).await?));
    }
    let mut count = admin.partitions(&name).await?;
    for _ in 0..50 {
        if count.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await; // brokers hear of it
        count = admin.partitions(&name).await?;
    }
    stage.fact(format!("partitions: {count:?}"));
    Ok(())
}

async fn ends(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(2).await?;
    stage.fill(&topic, 5).await?;
    let process = stage.process()?;
    let admin = process.admin()?;
    let empty = admin.offsets(&TopicPartition::new(topic.as_str(), 1)).await?;
    stage.fact(format!("empty: {empty:?}"));
    let five = admin.offsets(&TopicPartition::new(topic.as_str(), 0)).await?;
    stage.fact(format!("of five records: {five:?}"));
    let missing = admin.offsets(&TopicPartition::new(topic.as_str(), 7)).await;
    let missing = if missing.is_ok() { "an answer" } else { "an error" };
    stage.fact(format!("of a missing partition: {missing}"));
    Ok(())
}

async fn times(stage: &Stage<'_>) -> Played {
    const BEGIN: i64 = 1_767_225_600_000;
    let topic = stage.topic(1).await?;
    let writer = stage.writer()?;
    for second in [10, 20, 30] {
        let mut record = record(&topic, Some(0), None, Some("x"));
        record.timestamp_ms = Some(BEGIN + second * 1000);
        let sent = writer.queue(&record);
        sent.map_err(|error| Failure::Broke(format!("{error:?}")))?;
    }
    writer.all_stored().await?;
    let process = stage.process()?;
    let admin = process.admin()?;
    let partition = TopicPartition::new(topic.as_str(), 0);
    for (when, second) in
        [("before all", 0), ("between", 15), ("at the second", 20), ("after all", 40)]
    {
        let offset = admin.offset_at(&partition, BEGIN + second * 1000).await;
        let offset = offset.map_err(|error| {
            if error.retryable { error.into() } else { Failure::CantBePlayed(error.reason) }
        })?;
        stage.fact(format!("{when}: {offset}"));
    }
    Ok(())
}

async fn made_anew(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    stage.fill(&topic, 3).await?;
    let before = stage.process()?.admin()?.identity(&topic).await?;
    stage.place.replace_topic(&topic, 1).await?;
    let process = stage.process()?;
    let admin = process.admin()?;
    let now = admin.identity(&topic).await?;
    stage.fact(format!("another id: {}", now != before && now != TopicIdentity::Missing));
    let offsets = admin.offsets(&TopicPartition::new(topic.as_str(), 0)).await?;
    stage.fact(format!("offsets: {offsets:?}"));
    Ok(())
}
