//! What does a group do when members die, come back under their names, or share one?

use futures::FutureExt;

use super::Scenario;
use super::place::{Played, Protocol};
use super::stage::Stage;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "range_what_a_killed_member_had_moves_when_its_session_ends",
        facts: &["revoked: a 0 1", "assigned: a 0 1 2 3"],
        run: |stage| killed(stage, Protocol::Range).boxed_local(),
    },
    Scenario {
        name: "cooperative_what_a_killed_member_had_moves_when_its_session_ends",
        facts: &["assigned: a 0 1"],
        run: |stage| killed(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "kip_848_what_a_killed_member_had_moves_when_its_session_ends",
        facts: &["assigned: a 2 3"],
        run: |stage| killed(stage, Protocol::Consumer).boxed_local(),
    },
    Scenario {
        name: "cooperative_a_static_member_that_restarts_gets_its_own_back_and_disturbs_nobody",
        facts: &["assigned: a 2 3", "at rest: a 2 3, b 0 1"],
        run: |stage| static_restart(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "kip_848_a_static_member_that_restarts_gets_its_own_back_and_disturbs_nobody",
        facts: &["assigned: a 0 1", "at rest: a 0 1, b 2 3"],
        run: |stage| static_restart(stage, Protocol::Consumer).boxed_local(),
    },
    Scenario {
        name: "cooperative_of_two_with_one_instance_id_the_former_is_fenced",
        facts: &["assigned: second 0 1", "fenced: first"],
        run: |stage| two_of_a_name(stage, Protocol::Cooperative, "first").boxed_local(),
    },
    Scenario {
        name: "kip_848_of_two_with_one_instance_id_the_latter_is_fenced",
        facts: &["fenced: second"],
        run: |stage| two_of_a_name(stage, Protocol::Consumer, "second").boxed_local(),
    },
];

/// `a` stays, `z` dies.
async fn killed(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(4).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 4)]).await?;
    party.join_to_die("z")?;
    party.settle(&[("a", 2)]).await?;
    party.story();
    party.kill_strangers();
    party.settle(&[("a", 4)]).await?;
    for line in party.story() {
        stage.fact(line);
    }
    Ok(())
}

async fn static_restart(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(4).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join_as("a", Some("one"))?;
    party.settle(&[("a", 4)]).await?;
    party.join_as("b", Some("two"))?;
    party.settle(&[("a", 2), ("b", 2)]).await?;
    party.leave("a");
    party.close("a").await?;
    party.story();
    party.join_as("a", Some("one"))?;
    party.settle(&[("a", 2), ("b", 2)]).await?;
    for line in party.story() {
        stage.fact(line);
    }
    stage.fact(format!("at rest: {}", party.owners()));
    Ok(())
}

async fn two_of_a_name(stage: &Stage<'_>, protocol: Protocol, fenced: &str) -> Played {
    let topic = stage.topic(2).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join_as("first", Some("one"))?;
    party.settle(&[("first", 2)]).await?;
    party.story();
    party.join_as("second", Some("one"))?;
    if !party.is_told_soon(fenced, "fenced").await? {
        stage.fact("nobody is fenced");
    }
    party.rest().await?;
    let mut story = party.story();
    story.sort(); // who hears first is chance
    for line in story {
        stage.fact(line);
    }
    Ok(())
}
