//! What becomes of commits, and what is read back?

use futures::FutureExt;
use pelton::TopicPartition;

use super::Scenario;
use super::place::{Played, Protocol};
use super::stage::Stage;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_commit_comes_back_with_its_metadata",
        facts: &["before: nothing; nothing", "Accepted", "after: 3 with \"m=1\"; nothing"],
        run: |stage| comes_back(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "a_commit_comes_back_with_its_metadata_under_kip_848",
        facts: &["before: nothing; nothing", "Accepted", "after: 3 with \"m=1\"; nothing"],
        run: |stage| comes_back(stage, Protocol::Consumer).boxed_local(),
    },
    Scenario {
        name: "a_commit_may_go_back_and_past_the_end",
        facts: &["Accepted", "Accepted", "2", "Accepted", "99"],
        run: |stage| goes_back(stage).boxed_local(),
    },
    Scenario {
        name: "metadata_of_4096_bytes_is_stored_and_one_byte_more_is_not",
        facts: &["4096: Accepted", "4097: Retry", "stored: 1 of 4096 bytes"],
        run: |stage| metadata(stage).boxed_local(),
    },
    Scenario {
        name: "a_commit_of_a_missing_topic_is_refused_and_hides_no_other",
        facts: &["Accepted, TopicGone", "5"],
        run: |stage| missing_topic(stage).boxed_local(),
    },
    Scenario {
        name: "a_member_may_commit_what_it_does_not_have_in_a_classic_group",
        facts: &["Accepted", "7"],
        run: |stage| foreign(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "a_member_may_commit_what_it_does_not_have_under_kip_848",
        facts: &["Accepted", "7"],
        run: |stage| foreign(stage, Protocol::Consumer).boxed_local(),
    },
    Scenario {
        name: "who_has_left_may_not_commit_while_others_are_in_the_group",
        facts: &["MemberLost", "nothing"],
        run: |stage| has_left(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "who_has_left_may_not_commit_while_others_are_in_the_group_under_kip_848",
        facts: &["MemberLost", "nothing"],
        run: |stage| has_left(stage, Protocol::Consumer).boxed_local(),
    },
    Scenario {
        name: "a_commit_before_a_revocation_is_acknowledged_is_stored",
        facts: &["Accepted", "8"],
        run: |stage| while_revoked(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "a_commit_before_a_revocation_is_acknowledged_is_stored_in_an_eager_group",
        facts: &["Accepted", "8"],
        run: |stage| while_revoked(stage, Protocol::Range).boxed_local(),
    },
    Scenario {
        name: "a_commit_before_a_revocation_is_acknowledged_is_stored_under_kip_848",
        facts: &["Accepted", "8"],
        run: |stage| while_revoked(stage, Protocol::Consumer).boxed_local(),
    },
];

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

async fn comes_back(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(2).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 2)]).await?;
    let both = [tp(&topic, 1), tp(&topic, 0)];
    stage.fact(format!("before: {}", party.committed("a", &both).await?));
    stage.fact(party.commit("a", &[(tp(&topic, 1), 3, "m=1")]).await?);
    stage.fact(format!("after: {}", party.committed("a", &both).await?));
    Ok(())
}

async fn goes_back(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let mut party = stage.party(Protocol::Consumer, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 1)]).await?;
    let partition = tp(&topic, 0);
    stage.fact(party.commit("a", &[(partition.clone(), 5, "")]).await?);
    stage.fact(party.commit("a", &[(partition.clone(), 2, "")]).await?);
    stage.fact(party.committed("a", std::slice::from_ref(&partition)).await?);
    stage.fact(party.commit("a", &[(partition.clone(), 99, "")]).await?);
    stage.fact(party.committed("a", &[partition]).await?);
    Ok(())
}

async fn metadata(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let mut party = stage.party(Protocol::Consumer, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 1)]).await?;
    let partition = tp(&topic, 0);
    for (offset, bytes) in [(1, 4096), (2, 4097)] {
        let answer = party.commit("a", &[(partition.clone(), offset, &"x".repeat(bytes))]).await?;
        stage.fact(format!("{bytes}: {answer}"));
    }
    let stored = party.committed("a", &[partition]).await?;
    let (offset, text) = stored.split_once(' ').unwrap_or((&stored, ""));
    let bytes = text.matches('x').count();
    stage.fact(format!("stored: {offset} of {bytes} bytes"));
    Ok(())
}

async fn missing_topic(stage: &Stage<'_>) -> Played {
    let topic = stage.topic(1).await?;
    let missing = stage.place.unique("zzz-missing");
    let mut party = stage.party(Protocol::Cooperative, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 1)]).await?;
    let entries = [(tp(&topic, 0), 5, ""), (tp(&missing, 0), 5, "")];
    let answer = party.commit("a", &entries).await?;
    let mut statuses: Vec<_> = answer.split(", ").collect();
    statuses.sort_unstable();
    stage.fact(statuses.join(", "));
    stage.fact(party.committed("a", &[tp(&topic, 0)]).await?);
    Ok(())
}

async fn foreign(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let (topic, other) = (stage.topic(1).await?, stage.topic(1).await?);
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 1)]).await?;
    stage.fact(party.commit("a", &[(tp(&other, 0), 7, "")]).await?);
    stage.fact(party.committed("a", &[tp(&other, 0)]).await?);
    Ok(())
}

async fn has_left(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(2).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 2)]).await?;
    party.join("b")?;
    party.settle(&[("a", 1), ("b", 1)]).await?;
    party.leave("b");
    party.settle(&[("a", 2), ("b", 0)]).await?;
    stage.fact(party.commit("b", &[(tp(&topic, 0), 4, "")]).await?);
    stage.fact(party.committed("a", &[tp(&topic, 0)]).await?);
    Ok(())
}

/// What a drain does: the group asks back, the member commits, then it acknowledges.
async fn while_revoked(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(2).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 2)]).await?;
    party.hold("a");
    party.join("b")?;
    party.until("a is asked back", |party| party.is_holding("a")).await?;
    let asked = party.held("a");
    let partition = asked.first().cloned().unwrap_or_else(|| tp(&topic, 0));
    stage.fact(party.commit("a", &[(partition.clone(), 8, "")]).await?);
    party.let_go("a")?;
    party.settle(&[("a", 1), ("b", 1)]).await?;
    stage.fact(party.committed("b", &[partition]).await?);
    Ok(())
}
