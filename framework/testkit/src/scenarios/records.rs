//! What becomes of records that are written, and from where can they be read?

use futures::FutureExt;
use pelton::TopicPartition;
use pelton::ports::SendError;

use super::Scenario;
use super::place::{Failure, Played};
use super::stage::Stage;
use super::writer::{record, said};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "records_come_back_as_they_were_sent",
        facts: &[
            "0: ann in [seq: 7] [note: none]",
            "1: ann none",
            "2: later",
            "end at 3",
            "timestamp of the last: 1767225600123",
        ],
        run: |stage| records_come_back(stage).boxed_local(),
    },
    Scenario {
        name: "a_key_decides_the_partition_as_it_does_in_java",
        facts: &["ann: 2, bob: 0, eve: 2, zoe: 2"],
        run: |stage| keys(stage).boxed_local(),
    },
    Scenario {
        name: "what_is_sent_to_a_partition_stands_there_once_and_in_order",
        facts: &["1000 records, ascending: true, from 0", "1 to 1 reports a record"],
        run: |stage| order(stage).boxed_local(),
    },
    Scenario {
        name: "a_record_too_large_for_the_client_is_refused_at_once",
        facts: &["refused, may be tried again: true"],
        run: |stage| too_large_for_the_client(stage).boxed_local(),
    },
    Scenario {
        name: "a_record_too_large_for_its_topic_fails_alone",
        facts: &["the large one: failed, may be tried again", "the next one: stored", "0: small"],
        run: |stage| too_large_for_the_topic(stage).boxed_local(),
    },
    Scenario {
        name: "a_record_for_a_missing_topic_fails",
        facts: &["failed, may be tried again"],
        run: |stage| missing_topic(stage).boxed_local(),
    },
    Scenario {
        name: "a_record_for_a_missing_partition_is_refused",
        facts: &["refused, may be tried again: true"],
        run: |stage| missing_partition(stage).boxed_local(),
    },
    Scenario {
        name: "a_fetch_begins_where_it_is_told_and_tells_the_end",
        facts: &["2: 2", "3: 3", "4: 4", "end at 5", "cached end: 5"],
        run: |stage| from_the_middle(stage).boxed_local(),
    },
    Scenario {
        name: "an_empty_log_is_at_its_end_at_once",
        facts: &["end at 0", "then nothing"],
        run: |stage| empty_log(stage).boxed_local(),
    },
    Scenario {
        name: "a_fetch_at_the_end_hears_of_what_comes_later",
        facts: &["end at 1", "1: more", "end at 2"],
        run: |stage| growing_log(stage).boxed_local(),
    },
    Scenario {
        name: "a_position_past_the_end_is_out_of_range_until_it_is_started_elsewhere",
        facts: &["out of range at 9", "then nothing", "4: 4", "end at 5"],
        run: |stage| past_the_end(stage).boxed_local(),
    },
    Scenario {
        name: "a_position_that_retention_took_is_out_of_range",
        facts: &[
            "the log begins at 3 and ends at 5",
            "out of range at 1",
            "3: 3",
            "4: 4",
            "end at 5",
        ],
        run: |stage| before_the_start(stage).boxed_local(),
    },
    Scenario {
        name: "a_stopped_partition_brings_nothing_and_goes_on_where_it_is_started",
        facts: &["0: 0", "1: 1", "end at 2", "stopped: nothing", "1: 1", "2: more", "end at 3"],
        run: |stage| stopped(stage).boxed_local(),
    },
    Scenario {
        name: "a_second_start_jumps",
        facts: &["3: 3", "4: 4", "end at 5", "1: 1", "2: 2", "3: 3", "4: 4", "end at 5"],
        run: |stage| second_start(stage).boxed_local(),
    },
    Scenario {
        name: "a_fetch_of_a_missing_partition_brings_nothing_and_says_nothing",
        facts: &["nothing"],
        run: |stage| fetch_missing_partition(stage).boxed_local(),
    },
    Scenario {
        name: "compaction_leaves_the_last_value_of_each_key_where_it_was",
        facts: &["a hole where ann was overwritten", "ann: 3, bob: 1, the end: yes"],
        run: |stage| compaction(stage).boxed_local(),
    },
];

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn note_all(stage: &Stage<'_>, lines: Vec<String>) {
    for line in lines {
        stage.fact(line);
    }
}

fn or_nothing(lines: &[String]) -> String {
    if lines.is_empty() { "nothing".to_owned() } else { lines.join(", ") }
}

async fn records_come_back(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let writer = stage.writer()?;
    let mut first = record(&topic, Some(0), Some("ann"), Some("in"));
    first.headers = vec![("seq".to_owned(), Some(b"7".to_vec())), ("note".to_owned(), None)];
    let tombstone = record(&topic, Some(0), Some("ann"), None);
    let mut last = record(&topic, Some(0), None, Some("later"));
    last.timestamp_ms = Some(1_767_225_600_123);
    for record in [first, tombstone, last] {
        writer.queue(&record).map_err(|error| Failure::Broke(format!("{error:?}")))?;
    }
    writer.all_stored().await?;
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic, 0), 0)?;
    note_all(stage, reader.until("end").await?);
    let last = reader.last_timestamp().map_or_else(|| "none".to_owned(), |at| at.to_string());
    stage.fact(format!("timestamp of the last: {last}"));
    Ok(())
}

async fn keys(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(3).await?;
    let writer = stage.writer()?;
    let mut found = Vec::new();
    for key in ["ann", "bob", "eve", "zoe"] {
        let sent = writer.queue(&record(&topic, None, Some(key), Some(key)));
        sent.map_err(|error| Failure::Broke(format!("{error:?}")))?;
    }
    writer.all_stored().await?;
    for partition in 0..3 {
        let mut reader = stage.reader()?;
        reader.start(&tp(&topic, partition), 0)?;
        for line in reader.until("end").await? {
            if !line.starts_with("end")
                && let Some(key) = line.split(' ').nth(2)
            {
                found.push(format!("{key}: {partition}"));
            }
        }
    }
    found.sort();
    stage.fact(found.join(", "));
    Ok(())
}

async fn order(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let writer = stage.writer()?;
    for number in 0..1000 {
        writer.send(&topic, 0, None, &format!("{number:04}"))?;
        if number % 100 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(7)).await;
        }
    }
    writer.all_stored().await?;
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic, 0), 0)?;
    let lines = reader.until("end").await?;
    let records: Vec<_> = lines.iter().filter_map(|line| line.split_once(": ")).collect();
    let ascending = records.iter().map(|(_, value)| value).is_sorted();
    let first = records.first().map_or("none", |(offset, _)| offset);
    stage.fact(format!("{} records, ascending: {ascending}, from {first}", records.len()));
    let (least, most) = writer.reports_per_record();
    stage.fact(format!("{least} to {most} reports a record"));
    Ok(())
}

async fn too_large_for_the_client(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let writer = stage.writer()?;
    let large = "x".repeat(2_000_000);
    match writer.queue(&record(&topic, Some(0), None, Some(&large))) {
        Ok(ticket) => stage.fact(said(&writer.report(ticket).await?)),
        Err(SendError::Refused(error)) => {
            stage.fact(format!("refused, may be tried again: {}", error.retryable));
        }
        Err(other) => stage.fact(format!("{other:?}")),
    }
    Ok(())
}

async fn too_large_for_the_topic(stage: &Stage<'_>) -> Played {
    let topic = stage.topic_with(1, &[("max.message.bytes", "1000")]).await?;
    let writer = stage.writer()?;
    let mut noise = String::new();
    for number in 0..2_000u32 {
        noise.push_str(&number.wrapping_mul(2_654_435_761).to_string());
    }
    let large = writer.send(&topic, 0, None, &noise)?;
    let heard = writer.report(large).await?;
    stage.fact(format!("the large one: {}", said(&heard)));
    let next = writer.send(&topic, 0, None, "small")?;
    stage.fact(format!("the next one: {}", said(&writer.report(next).await?)));
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic, 0), 0)?;
    let lines = reader.until("end").await?;
    stage.fact(lines.first().cloned().unwrap_or_default());
    Ok(())
}

async fn missing_topic(stage: &Stage<'_>) -> Played {
    let writer = stage.writer()?;
    let topic = stage.place.unique("missing");
    let ticket = writer.send(&topic, 0, None, "x")?;
    stage.fact(said(&writer.report(ticket).await?));
    Ok(())
}

async fn missing_partition(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(2).await?;
    let writer = stage.writer()?;
    writer.send(&topic, 0, None, "first, so that the topic is known")?;
    writer.all_stored().await?;
    match writer.queue(&record(&topic, Some(7), None, Some("x"))) {
        Ok(ticket) => stage.fact(said(&writer.report(ticket).await?)),
        Err(SendError::Refused(error)) => {
            stage.fact(format!("refused, may be tried again: {}", error.retryable));
        }
        Err(other) => stage.fact(format!("{other:?}")),
    }
    Ok(())
}

async fn from_the_middle(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    stage.fill(&topic, 5).await?;
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic, 0), 2)?;
    note_all(stage, reader.until("end").await?);
    let end = reader.end_offset(&tp(&topic, 0));
    stage.fact(format!("cached end: {}", end.map_or_else(String::new, |end| end.to_string())));
    Ok(())
}

async fn empty_log(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic, 0), 0)?;
    note_all(stage, reader.until("end").await?);
    stage.fact(format!("then {}", or_nothing(&reader.within_a_while().await)));
    Ok(())
}

async fn growing_log(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    stage.fill(&topic, 1).await?;
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic, 0), 1)?;
    note_all(stage, reader.until("end at 1").await?);
    let writer = stage.writer()?;
    writer.send(&topic, 0, None, "more")?;
    note_all(stage, reader.until("end at 2").await?);
    Ok(())
}

async fn past_the_end(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    stage.fill(&topic, 5).await?;
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic, 0), 9)?;
    note_all(stage, reader.until("out of range").await?);
    stage.fact(format!("then {}", or_nothing(&reader.within_a_while().await)));
    reader.stop(&tp(&topic, 0))?;
    reader.start(&tp(&topic, 0), 4)?;
    note_all(stage, reader.until("end").await?);
    Ok(())
}

async fn before_the_start(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let partition = tp(&topic, 0);
    stage.fill(&topic, 5).await?;
    stage.place.delete_records(&partition, 3).await?;
    let (first, end) = stage.process()?.admin()?.offsets(&partition).await?;
    stage.fact(format!("the log begins at {first} and ends at {end}"));
    let mut reader = stage.reader()?;
    reader.start(&partition, 1)?;
    note_all(stage, reader.until("out of range").await?);
    reader.stop(&partition)?;
    reader.start(&partition, first)?;
    note_all(stage, reader.until("end").await?);
    Ok(())
}

async fn stopped(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let partition = tp(&topic, 0);
    stage.fill(&topic, 2).await?;
    let mut reader = stage.reader()?;
    reader.start(&partition, 0)?;
    note_all(stage, reader.until("end").await?);
    reader.stop(&partition)?;
    let writer = stage.writer()?;
    writer.send(&topic, 0, None, "more")?;
    writer.all_stored().await?;
    stage.fact(format!("stopped: {}", or_nothing(&reader.within_a_while().await)));
    reader.start(&partition, 1)?;
    note_all(stage, reader.until("end").await?);
    Ok(())
}

async fn second_start(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    stage.fill(&topic, 5).await?;
    let mut reader = stage.reader()?;
    for offset in [3, 1] {
        reader.start(&tp(&topic, 0), offset)?;
        note_all(stage, reader.until("end").await?);
    }
    Ok(())
}

async fn fetch_missing_partition(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let mut reader = stage.reader()?;
    reader.start(&tp(&topic, 5), 0)?;
    stage.fact(or_nothing(&reader.within_a_while().await));
    Ok(())
}

async fn compaction(stage: &Stage<'_>) -> Played {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "200"),
    ];
    let topic = stage.topic_with(1, &settings).await?;
    let partition = tp(&topic, 0);
    let writer = stage.writer()?;
    for (key, value) in [("ann", "0"), ("bob", "1"), ("ann", "2"), ("ann", "3")] {
        writer.send(&topic, 0, Some(key), value)?;
        writer.all_stored().await?;
    }
    let mut attempts = 0;
    loop {
        attempts += 1;
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        // The segment that is written to is never compacted: another one is begun.
        writer.send(&topic, 0, Some(&format!("filler-{attempts}")), "x")?;
        writer.all_stored().await?;
        stage.place.compact(&partition).await?;
        let mut reader = stage.reader()?;
        reader.start(&partition, 0)?;
        let lines = reader.until("end").await?;
        let has = |line: &str| lines.iter().any(|seen| seen == line);
        if !has("0: ann 0") && !has("2: ann 2") {
            stage.fact("a hole where ann was overwritten");
            let end =
                if lines.last().is_some_and(|line| line.starts_with("end")) { "yes" } else { "no" };
            let find = |key: &str| {
                let mut of_key = lines.iter().filter(|line| line.contains(key));
                of_key
                    .next_back()
                    .and_then(|line| line.split(':').next())
                    .unwrap_or("none")
                    .to_owned()
            };
            stage.fact(format!("ann: {}, bob: {}, the end: {end}", find("ann"), find("bob")));
            return Ok(());
        }
        if attempts > 60 {
            return Err(Failure::Broke(format!("no compaction: {lines:?}")));
        }
    }
}
