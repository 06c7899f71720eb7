//! What do careful readers see of transactions, and who may still write?

use futures::FutureExt;
use pelton::TopicPartition;

use super::Scenario;
use super::place::{Played, Protocol, Transaction};
use super::stage::Stage;
use super::writer::record;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "what_is_committed_is_seen_and_what_is_aborted_is_not",
        facts: &[
            "init done",
            "begin done, stored, commit done",
            "begin done, stored, abort done",
            "begin done, stored, commit done",
            "0: one",
            "4: three",
            "end at 6",
        ],
        run: |stage| visible(stage).boxed_local(),
    },
    Scenario {
        name: "an_open_transaction_holds_back_what_comes_after_it",
        facts: &[
            "init done",
            "begin done, stored",
            "0: before",
            "end at 1",
            "then nothing",
            "the log ends at 1",
            "commit done",
            "1: within",
            "2: after",
            "end at 4",
        ],
        run: |stage| open(stage).boxed_local(),
    },
    Scenario {
        name: "who_takes_a_transactional_id_fences_the_former_and_aborts_what_it_left_open",
        facts: &["init done", "begin done, stored", "init done", "former commit fatal", "end at 2"],
        run: |stage| fenced(stage).boxed_local(),
    },
    Scenario {
        name: "offsets_in_a_transaction_are_committed_with_it_and_dropped_with_it",
        facts: &[
            "init done",
            "begin done, offset done, abort done",
            "committed: nothing",
            "begin done, offset done",
            "while it is open: an error, may be tried again",
            "commit done",
            "committed: 9",
        ],
        run: |stage| offsets(stage).boxed_local(),
    },
];

fn tp(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

async fn init(stage: &Stage<'_>, id: &str) -> Played<Box<dyn Transaction>> {
    let producer = stage.place.transaction(id)?;
    stage.fact(format!("init {}", producer.init().await));
    Ok(producer)
}

async fn begin_and_send(producer: &dyn Transaction, topic: &str, value: &str) -> String {
    let begun = producer.begin().await;
    let stored = producer.send(record(topic, Some(0), None, Some(value))).await;
    format!("begin {begun}, {stored}")
}

async fn visible(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let producer = init(stage, &stage.place.unique("id")).await?;
    for (value, commits) in [("one", true), ("two", false), ("three", true)] {
        let sent = begin_and_send(&*producer, &topic, value).await;
        let ended = if commits {
            format!("commit {}", producer.commit().await)
        } else {
            format!("abort {}", producer.abort().await)
        };
        stage.fact(format!("{sent}, {ended}"));
    }
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic), 0)?;
    // An end that is told before the last marker is there holds no more.
    for line in reader.until_at_most("end at 6").await {
        stage.fact(line);
    }
    Ok(())
}

async fn open(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let writer = stage.writer()?;
    writer.send(&topic, 0, None, "before")?;
    writer.all_stored().await?;
    let producer = init(stage, &stage.place.unique("id")).await?;
    stage.fact(begin_and_send(&*producer, &topic, "within").await);
    writer.send(&topic, 0, None, "after")?;
    writer.all_stored().await?;
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic), 0)?;
    for line in reader.until("end").await? {
        stage.fact(line);
    }
    let more = reader.within_a_while().await;
    stage.fact(if more.is_empty() { "then nothing".to_owned() } else { format!("then {more:?}") });
    let (_, end) = stage.process()?.admin()?.offsets(&tp(&topic)).await?;
    stage.fact(format!("the log ends at {end}"));
    stage.fact(format!("commit {}", producer.commit().await));
    for line in reader.until_at_most("end at 4").await {
        stage.fact(line);
    }
    Ok(())
}

async fn fenced(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let id = stage.place.unique("id");
    let former = init(stage, &id).await?;
    stage.fact(begin_and_send(&*former, &topic, "left open").await);
    let _latter = init(stage, &id).await?;
    stage.fact(format!("former commit {}", former.commit().await));
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic), 0)?;
    let seen = reader.until_at_most("end at 2").await;
    stage.fact(seen.join(", "));
    Ok(())
}

async fn offsets(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let mut party = stage.party(Protocol::Consumer, &[&topic]);
    // The group is empty while offsets come from outside.
    party.join("a")?;
    party.settle(&[("a", 1)]).await?;
    party.leave("a");
    party.settle(&[("a", 0)]).await?;
    let group = party.group.clone();
    let producer = init(stage, &stage.place.unique("id")).await?;
    let begun = producer.begin().await;
    let sent = producer.send_offset(group.clone(), tp(&topic), 5).await;
    let aborted = producer.abort().await;
    stage.fact(format!("begin {begun}, offset {sent}, abort {aborted}"));
    stage.fact(format!("committed: {}", party.committed("a", &[tp(&topic)]).await?));
    let begun = producer.begin().await;
    let sent = producer.send_offset(group, tp(&topic), 9).await;
    stage.fact(format!("begin {begun}, offset {sent}"));
    let while_open = match party.committed("a", &[tp(&topic)]).await {
        Ok(offset) => offset,
        Err(super::Failure::Broke(_)) => "an error, may be tried again".to_owned(),
        Err(other) => return Err(other),
    };
    stage.fact(format!("while it is open: {while_open}"));
    stage.fact(format!("commit {}", producer.commit().await));
    stage.fact(format!("committed: {}", party.committed("a", &[tp(&topic)]).await?));
    Ok(())
}
