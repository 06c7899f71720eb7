//! Who has what in a group, and how did it come so? Members that acknowledge at once, unless they
//! are told to hold, and one record of what they were told.

use std::collections::{BTreeMap, BTreeSet};

use pelton::TopicPartition;
use pelton::ports::{CommitEntry, Committed, Member, MemberEvent};
use pelton_engine::CommitStatus;

use super::place::{Failure, Kind, Place, Played, Protocol, Role, Stranger};
use super::stage::{LOOK, PATIENCE};

/// A group's members are at rest when nothing has come for so long: two heartbeats, and more.
const REST: std::time::Duration = std::time::Duration::from_millis(2_500);

/// What may not happen at all happens within so long, or not: two sessions.
const SOON: std::time::Duration = std::time::Duration::from_secs(12);

/// A group, and its members that the scenario plays.
pub(super) struct Party<'a> {
    place: &'a dyn Place,
    pub(super) group: String,
    protocol: Protocol,
    topics: Vec<String>,
    members: BTreeMap<String, Guest>,
    strangers: Vec<Box<dyn Stranger>>,
    waves: Vec<Wave>,
    answers: BTreeMap<u64, Vec<CommitStatus>>,
    commits: u64,
    /// What else was said, for when something fails.
    troubles: Vec<String>,
}

struct Guest {
    member: Option<Box<dyn Member>>,
    has: BTreeSet<TopicPartition>,
    /// It does not acknowledge.
    holds: bool,
    held: Option<MemberEvent>,
}

/// What members were told at about the same time, all of one kind: who was told first is chance.
#[derive(Clone, Debug, PartialEq)]
struct Wave {
    kind: &'static str,
    told: BTreeMap<String, BTreeSet<TopicPartition>>,
}

impl<'a> Party<'a> {
    pub(super) fn new(
        place: &'a dyn Place,
        group: String,
        protocol: Protocol,
        topics: &[&str],
    ) -> Self {
        Self {
            place,
            group,
            protocol,
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            members: BTreeMap::new(),
            strangers: Vec::new(),
            waves: Vec::new(),
            answers: BTreeMap::new(),
            commits: 0,
            troubles: Vec::new(),
        }
    }

    fn role(&self, name: &str, instance: Option<&str>) -> Role {
        Role {
            name: name.to_owned(),
            group: self.group.clone(),
            topics: self.topics.clone(),
            protocol: self.protocol,
            instance: instance.map(|instance| format!("{}-{instance}", self.group)),
        }
    }

    /// A member comes.
    pub(super) fn join(&mut self, name: &str) -> Played {
        self.join_as(name, None)
    }

    /// A member comes, with an instance id or without.
    pub(super) fn join_as(&mut self, name: &str, instance: Option<&str>) -> Played {
        let member = self.place.process(&self.role(name, instance))?.member()?;
        let (has, holds, held) = (BTreeSet::new(), false, None);
        self.members.insert(name.to_owned(), Guest { member: Some(member), has, holds, held });
        Ok(())
    }

    /// A member comes whose process will be killed.
    pub(super) fn join_to_die(&mut self, name: &str) -> Played {
        self.strangers.push(self.place.stranger(&self.role(name, None))?);
        Ok(())
    }

    /// Kills those that came to die.
    pub(super) fn kill_strangers(&mut self) {
        for stranger in self.strangers.drain(..) {
            stranger.kill();
        }
    }

    fn guest(&mut self, name: &str) -> &mut Guest {
        self.members.get_mut(name).expect("it has joined")
    }

    fn member(&mut self, name: &str) -> &mut dyn Member {
        self.guest(name).member.as_deref_mut().expect("it is there")
    }

    /// From now on this member acknowledges nothing.
    pub(super) fn hold(&mut self, name: &str) {
        self.guest(name).holds = true;
    }

    /// It acknowledges what it has held back.
    pub(super) fn let_go(&mut self, name: &str) -> Played {
        let guest = self.guest(name);
        guest.holds = false;
        if let Some(event) = guest.held.take() {
            guest.acknowledge(&event)?;
        }
        Ok(())
    }

    /// Does it hold an acknowledgement back?
    pub(super) fn is_holding(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|guest| guest.held.is_some())
    }

    /// Was it told such a thing since the story was told last?
    pub(super) fn told(&self, name: &str, kind: &str) -> bool {
        self.waves.iter().any(|wave| wave.kind == kind && wave.told.contains_key(name))
    }

    /// What it is asked about.
    pub(super) fn held(&self, name: &str) -> Vec<TopicPartition> {
        match self.members.get(name).and_then(|guest| guest.held.as_ref()) {
            Some(
                MemberEvent::Assigned(partitions)
                | MemberEvent::Revoked(partitions)
                | MemberEvent::Lost(partitions),
            ) => partitions.clone(),
            _ => Vec::new(),
        }
    }

    /// Begins to leave.
    pub(super) fn leave(&mut self, name: &str) {
        self.member(name).leave();
    }

    /// It joins anew.
    pub(super) fn rejoin(&mut self, name: &str) {
        self.member(name).rejoin();
    }

    /// Ends its client, as at the end of a process.
    pub(super) async fn close(&mut self, name: &str) -> Played {
        self.until("the member has left", |party| party.member(name).has_left()).await?;
        if let Some(guest) = self.members.remove(name)
            && let Some(member) = guest.member
        {
            member.close(true);
        }
        // Elsewhere closing waits for the group's answer; the model's farewell is on its way now.
        tokio::time::sleep(LOOK * 5).await;
        Ok(())
    }

    /// Is it in its group, whether or not it has partitions?
    pub(super) fn has_joined(&mut self, name: &str) -> bool {
        self.member(name).has_joined()
    }

    pub(super) fn count(&self, name: &str) -> usize {
        self.members.get(name).map_or(0, |guest| guest.has.len())
    }

    /// Looks what everybody was told.
    fn look(&mut self) -> Played<bool> {
        let mut anything = false;
        for stranger in &mut self.strangers {
            stranger.tend();
        }
        let names: Vec<String> = self.members.keys().cloned().collect();
        for name in names {
            while let Some(event) = self.member(&name).poll() {
                anything |= self.hear(&name, event)?;
            }
        }
        Ok(anything)
    }

    /// Is it news?
    fn hear(&mut self, name: &str, event: MemberEvent) -> Played<bool> {
        let (kind, partitions) = match &event {
            MemberEvent::Assigned(partitions) => ("assigned", partitions.clone()),
            MemberEvent::Revoked(partitions) => ("revoked", partitions.clone()),
            MemberEvent::Lost(partitions) => ("lost", partitions.clone()),
            MemberEvent::CommitAnswered { id, statuses } => {
                let statuses = statuses.iter().map(|(_, status)| *status).collect();
                self.answers.insert(*id, statuses);
                return Ok(true);
            }
            MemberEvent::Trouble(what) => {
                self.troubles.push(format!("{name}: {what}"));
                return Ok(false);
            }
            MemberEvent::InstanceFenced(why) => ("fenced", self.ends(name, why)),
            MemberEvent::Broken(why) => ("broken", self.ends(name, why)),
            MemberEvent::Fatal(why) => ("fatal", self.ends(name, why)),
        };
        let is_end = matches!(kind, "fenced" | "broken" | "fatal");
        let is_news = is_end || !partitions.is_empty();
        if is_news {
            self.note(name, kind, partitions);
        }
        let guest = self.guest(name);
        if is_end {
            return Ok(true);
        }
        if guest.holds {
            guest.held = Some(event);
        } else {
            guest.acknowledge(&event)?;
        }
        Ok(is_news)
    }

    fn ends(&mut self, name: &str, why: &str) -> Vec<TopicPartition> {
        self.troubles.push(format!("{name}: {why}"));
        Vec::new()
    }

    fn note(&mut self, name: &str, kind: &'static str, partitions: Vec<TopicPartition>) {
        if self.waves.last().is_none_or(|wave| wave.kind != kind) {
            self.waves.push(Wave { kind, told: BTreeMap::new() });
        }
        if let Some(wave) = self.waves.last_mut() {
            wave.told.entry(name.to_owned()).or_default().extend(partitions);
        }
    }

    /// Everybody goes on until this holds.
    pub(super) async fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Played {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.look()?;
            if holds(self) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= end {
                let story = self.story();
                let troubles = &self.troubles;
                let why = format!("{what}: not within {PATIENCE:?}; {story:?}; {troubles:?}");
                return Err(Failure::Broke(why));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Everybody goes on until a member is told such a thing, for some seconds.
    pub(super) async fn is_told_soon(&mut self, name: &str, kind: &str) -> Played<bool> {
        let end = tokio::time::Instant::now() + SOON;
        while !self.told(name, kind) && tokio::time::Instant::now() < end {
            self.look()?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(self.told(name, kind))
    }

    /// Everybody goes on until each member has so many partitions, and nothing comes any more.
    pub(super) async fn settle(&mut self, counts: &[(&str, usize)]) -> Played {
        let fits =
            |party: &mut Self| counts.iter().all(|(name, count)| party.count(name) == *count);
        self.settle_where(&format!("{counts:?} partitions"), fits).await
    }

    /// Everybody goes on until this holds, and nothing comes any more.
    pub(super) async fn settle_where(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Played {
        loop {
            self.until(what, &mut holds).await?;
            self.rest().await?;
            // Nothing comes either while a rebalance waits for somebody.
            if holds(self) {
                return Ok(());
            }
        }
    }

    /// Everybody goes on until nothing has come for a while.
    pub(super) async fn rest(&mut self) -> Played {
        let end = tokio::time::Instant::now() + PATIENCE;
        let mut quiet_since = tokio::time::Instant::now();
        while quiet_since.elapsed() < REST && tokio::time::Instant::now() < end {
            if self.look()? {
                quiet_since = tokio::time::Instant::now();
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Commits, and hears the answer.
    pub(super) async fn commit(
        &mut self,
        name: &str,
        entries: &[(TopicPartition, i64, &str)],
    ) -> Played<String> {
        self.commits += 1;
        let id = self.commits;
        let entries: Vec<CommitEntry> = entries
            .iter()
            .map(|(partition, offset, metadata)| CommitEntry {
                partition: partition.clone(),
                offset: *offset,
                metadata: (*metadata).to_owned(),
            })
            .collect();
        self.member(name).commit(id, &entries)?;
        self.until("a commit's answer", |party| party.answers.contains_key(&id)).await?;
        let statuses = self.answers.remove(&id).unwrap_or_default();
        Ok(statuses.iter().map(|status| format!("{status:?}")).collect::<Vec<_>>().join(", "))
    }

    /// What the group has committed, as this member reads it: a line each.
    pub(super) async fn committed(
        &mut self,
        name: &str,
        partitions: &[TopicPartition],
    ) -> Played<String> {
        let offsets = self.member(name).committed();
        let read = offsets.read(partitions.to_vec()).await?;
        Ok(read.iter().map(committed_line).collect::<Vec<_>>().join("; "))
    }

    /// What was told since the last time, in order.
    pub(super) fn story(&mut self) -> Vec<String> {
        let several = self.topics.len() > 1;
        let mut waves = std::mem::take(&mut self.waves);
        if self.place.kind() == Kind::Embedded {
            forget_false_starts(&mut waves);
        }
        waves.iter().map(|wave| wave_line(wave, &self.topics, several)).collect()
    }

    /// Who has what: `a 0 1, b 2 3`.
    pub(super) fn owners(&self) -> String {
        let several = self.topics.len() > 1;
        let of = |(name, guest): (&String, &Guest)| {
            format!("{name}{}", partitions_text(&guest.has, &self.topics, several))
        };
        self.members.iter().map(of).collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Party<'_> {
    /// Nobody asks for this group again. Closing takes seconds, and nobody waits for it; a model
    /// goes with its members.
    fn drop(&mut self) {
        self.kill_strangers();
        for guest in std::mem::take(&mut self.members).into_values() {
            if let Some(member) = guest.member
                && self.place.kind() != Kind::Model
            {
                drop(std::thread::spawn(move || member.close(true)));
            }
        }
    }
}

impl Guest {
    fn acknowledge(&mut self, event: &MemberEvent) -> Played {
        match event {
            MemberEvent::Assigned(partitions) => self.has.extend(partitions.iter().cloned()),
            MemberEvent::Revoked(partitions) | MemberEvent::Lost(partitions) => {
                self.has.retain(|partition| !partitions.contains(partition));
            }
            _ => {}
        }
        if let Some(member) = &mut self.member {
            member.acknowledge()?;
        }
        Ok(())
    }
}

/// librdkafka's mock lets a rebalance wait for its session less one second, whoever has come by
/// then (`rd_kafka_mock_cgrp_classic_rebalance`, 2.12): where a machine stands still for a second,
/// somebody is late, and what was given is taken back at once. Kafka waits for as long as a
/// rebalance may take.
fn forget_false_starts(waves: &mut Vec<Wave>) {
    let mut at = 0;
    while at + 1 < waves.len() {
        let [given, taken] = &waves[at..at + 2] else { break };
        if (given.kind, taken.kind) == ("assigned", "revoked") && given.told == taken.told {
            waves.drain(at..at + 2);
            at = 0;
        } else {
            at += 1;
        }
    }
}

fn wave_line(wave: &Wave, topics: &[String], several: bool) -> String {
    let of = |(name, partitions): (&String, &BTreeSet<TopicPartition>)| {
        format!("{name}{}", partitions_text(partitions, topics, several))
    };
    let told: Vec<_> = wave.told.iter().map(of).collect();
    format!("{}: {}", wave.kind, told.join(", "))
}

/// With several topics a partition is called by its topic's place among them: `x0`, `y0`.
fn partitions_text(
    partitions: &BTreeSet<TopicPartition>,
    topics: &[String],
    several: bool,
) -> String {
    let mut names: Vec<String> = partitions
        .iter()
        .map(|partition| {
            let at = topics.iter().position(|topic| topic == partition.topic()).unwrap_or(9);
            let topic = ["x", "y", "z"].get(at).copied().unwrap_or("?");
            let topic = if several { topic } else { "" };
            format!(" {topic}{}", partition.partition())
        })
        .collect();
    names.sort();
    names.concat()
}

fn committed_line(committed: &Committed) -> String {
    match committed.offset {
        None => "nothing".to_owned(),
        Some(offset) if committed.metadata.is_empty() => offset.to_string(),
        Some(offset) => format!("{offset} with {:?}", committed.metadata),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(kind: &'static str, name: &str, partitions: &[i32]) -> Wave {
        let partitions = partitions.iter().map(|&n| TopicPartition::new("logins", n)).collect();
        Wave { kind, told: BTreeMap::from([(name.to_owned(), partitions)]) }
    }

    #[test]
    fn what_was_given_and_taken_back_at_once_is_forgotten_and_nothing_else() {
        let (gives, takes) = (wave("assigned", "a", &[0]), wave("revoked", "a", &[0]));
        let (more, before) = (wave("assigned", "a", &[0, 1]), wave("revoked", "a", &[0, 1]));
        let cases: [(&[&Wave], &[&Wave]); 5] = [
            (&[&before, &gives, &takes, &more], &[&before, &more]),
            (&[&before, &gives, &takes, &gives, &takes, &more], &[&before, &more]),
            (&[&takes, &gives], &[&takes, &gives]),
            (&[&more, &takes], &[&more, &takes]),
            (&[&gives], &[&gives]),
        ];
        for (told, left) in cases {
            let mut waves: Vec<Wave> = told.iter().copied().cloned().collect();
            forget_false_starts(&mut waves);
            assert_eq!(waves.iter().collect::<Vec<_>>(), left);
        }
    }
}
