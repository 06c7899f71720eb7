//! Who has what while members come and go, and what are they told, in which order?

use futures::FutureExt;

use super::Scenario;
use super::party::Party;
use super::place::{Played, Protocol};
use super::stage::Stage;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "range_two_come_and_one_leaves",
        facts: &[
            "assigned: a 0 1 2 3",
            "at rest: a 0 1 2 3",
            "revoked: a 0 1 2 3",
            "assigned: a 0 1, b 2 3",
            "at rest: a 0 1, b 2 3",
            "revoked: a 0 1, b 2 3",
            "assigned: a 0 1 2 3",
            "at rest: a 0 1 2 3, b",
        ],
        run: |stage| come_and_go(stage, Protocol::Range).boxed_local(),
    },
    Scenario {
        name: "cooperative_two_come_and_one_leaves",
        facts: &[
            "assigned: a 0 1 2 3",
            "at rest: a 0 1 2 3",
            "revoked: a 0 1",
            "assigned: b 0 1",
            "at rest: a 2 3, b 0 1",
            "revoked: b 0 1",
            "assigned: a 0 1",
            "at rest: a 0 1 2 3, b",
        ],
        run: |stage| come_and_go(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "kip_848_two_come_and_one_leaves",
        facts: &[
            "assigned: a 0 1 2 3",
            "at rest: a 0 1 2 3",
            "revoked: a 2 3",
            "assigned: b 2 3",
            "at rest: a 0 1, b 2 3",
            "revoked: b 2 3",
            "assigned: a 2 3",
            "at rest: a 0 1 2 3, b",
        ],
        run: |stage| come_and_go(stage, Protocol::Consumer).boxed_local(),
    },
    Scenario {
        name: "cooperative_nobody_gets_what_is_not_given_back",
        facts: &["while a holds: a 0 1 2 3, b", "afterwards: a 2 3, b 0 1"],
        run: |stage| held_back(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "kip_848_nobody_gets_what_is_not_given_back",
        facts: &["while a holds: a 0 1 2 3, b", "afterwards: a 0 1, b 2 3"],
        run: |stage| held_back(stage, Protocol::Consumer).boxed_local(),
    },
    Scenario {
        name: "range_deals_each_topic_by_itself",
        facts: &["at rest: a x0 x1 y0 y1, b x2 y2"],
        run: |stage| two_topics(stage, Protocol::Range).boxed_local(),
    },
    Scenario {
        name: "cooperative_a_spare_member_is_in_its_group_without_partitions",
        facts: &["b has joined: true", "at rest: a 0, b", "a's end moves it: a 0 -> b 0"],
        run: |stage| spare(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "kip_848_a_spare_member_is_in_its_group_without_partitions",
        facts: &["b has joined: true", "at rest: a 0, b", "a's end moves it: a 0 -> b 0"],
        run: |stage| spare(stage, Protocol::Consumer).boxed_local(),
    },
    Scenario {
        name: "cooperative_who_joins_anew_gives_everything_back_first",
        facts: &["revoked: a 0 1", "assigned: a 0 1"],
        run: |stage| anew(stage, Protocol::Cooperative).boxed_local(),
    },
    Scenario {
        name: "kip_848_who_joins_anew_gives_everything_back_first",
        facts: &["revoked: a 0 1", "assigned: a 0 1"],
        run: |stage| anew(stage, Protocol::Consumer).boxed_local(),
    },
];

async fn come_and_go(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(4).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 4)]).await?;
    tell(stage, &mut party);
    party.join("b")?;
    party.settle(&[("a", 2), ("b", 2)]).await?;
    tell(stage, &mut party);
    party.leave("b");
    party.settle(&[("a", 4), ("b", 0)]).await?;
    tell(stage, &mut party);
    party.close("b").await
}

fn tell(stage: &Stage<'_>, party: &mut Party<'_>) {
    for line in party.story() {
        stage.fact(line);
    }
    stage.fact(format!("at rest: {}", party.owners()));
}

async fn held_back(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(4).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 4)]).await?;
    party.hold("a");
    party.join("b")?;
    party.until("a is asked back", |party| party.is_holding("a")).await?;
    party.rest().await?;
    stage.fact(format!("while a holds: {}", party.owners()));
    party.let_go("a")?;
    party.settle(&[("a", 2), ("b", 2)]).await?;
    stage.fact(format!("afterwards: {}", party.owners()));
    Ok(())
}

async fn two_topics(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let (x, y) = (stage.topic(3).await?, stage.topic(3).await?);
    let mut party = stage.party(protocol, &[&x, &y]);
    party.join("a")?;
    party.settle(&[("a", 6)]).await?;
    party.join("b")?;
    let is_shared =
        |party: &mut Party<'_>| party.count("a") + party.count("b") == 6 && party.count("b") > 0;
    party.settle_where("b has its part", is_shared).await?;
    stage.fact(format!("at rest: {}", party.owners()));
    Ok(())
}

async fn spare(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(1).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 1)]).await?;
    party.join("b")?;
    let is_a_spare =
        |party: &mut Party<'_>| party.has_joined("b") && party.count("a") + party.count("b") == 1;
    party.settle_where("one of two is a spare", is_a_spare).await?;
    let joined = party.has_joined("b");
    stage.fact(format!("b has joined: {joined}"));
    stage.fact(format!("at rest: {}", party.owners()));
    party.leave("a");
    party.settle(&[("a", 0), ("b", 1)]).await?;
    stage.fact(format!("a's end moves it: a 0 -> b {}", usize::from(party.count("b") != 1)));
    Ok(())
}

async fn anew(stage: &Stage<'_>, protocol: Protocol) -> Played {
    let topic = stage.topic(2).await?;
    let mut party = stage.party(protocol, &[&topic]);
    party.join("a")?;
    party.settle(&[("a", 2)]).await?;
    party.story();
    party.rejoin("a");
    party.until("it is assigned again", |party| party.told("a", "assigned")).await?;
    party.settle(&[("a", 2)]).await?;
    for line in party.story() {
        stage.fact(line);
    }
    Ok(())
}
