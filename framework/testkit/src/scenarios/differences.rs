//! Where does a place answer otherwise than Kafka? Every known difference, by name, with its reason.
//!
//! Kafka is 4.3.1 and librdkafka 2.12.1, whose files and functions are named as the source.

use self::Differs::{Answers, AnswersOneOf, CantBePlayed};
use super::place::Kind;
use super::place::Kind::{Embedded, Model};

/// A scenario that goes otherwise in a place.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// Which scenario.
    pub scenario: &'static str,
    /// In which place.
    pub place: Kind,
    /// What is otherwise.
    pub differs: Differs,
    /// Why, and where that can be read.
    pub why: &'static str,
}

/// What is otherwise.
#[derive(Clone, Copy, Debug)]
pub enum Differs {
    /// The place lacks what the scenario needs.
    CantBePlayed,
    /// These are the facts there.
    Answers(&'static [&'static str]),
    /// One of these, by chance.
    AnswersOneOf(&'static [&'static [&'static str]]),
}

const fn differs(
    place: Kind,
    scenario: &'static str,
    differs: Differs,
    why: &'static str,
) -> Difference {
    Difference { scenario, place, differs, why }
}

const MOVES_THE_LAST: &str = "Which partitions move is the assignor's choice: the model takes a \
    member's last ones, librdkafka its first (`rdkafka_sticky_assignor.c`). How many move, and \
    in which order they are given back and handed on, is the same.";
const NO_SETTINGS: &str = "Topics are made with a name and a number of partitions \
    (`rd_kafka_mock_topic_create`).";
const NO_ADMIN_CALLS: &str = "No admin request is in the table `rd_kafka_mock_api_handlers`.";
const NO_TRANSACTIONS: &str = "Transactions are answered and not carried out: logs have no \
    markers, a second producer fences no first (`rd_kafka_mock_handle_EndTxn`, \
    `rd_kafka_mock_handle_InitProducerId`).";

const MEMBERS_BY_ADDRESS: &str = "A classic member is named after its place in memory \
    (`rd_kafka_mock_cgrp_classic_member_add`), not after its client, and members are dealt to by \
    name.";

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    differs(
        Model,
        "a_record_too_large_for_its_topic_fails_alone",
        CantBePlayed,
        "Its topics have no limit of their own; the client's (1 MB) is there.",
    ),
    differs(
        Model,
        "a_topic_made_anew_has_another_id_and_an_empty_log",
        CantBePlayed,
        "Its topics stay; `TestDriver` and tests on Kafka hold what a worker does with new ones.",
    ),
    differs(
        Model,
        "cooperative_two_come_and_one_leaves",
        Answers(&[
            "assigned: a 0 1 2 3",
            "at rest: a 0 1 2 3",
            "revoked: a 2 3",
            "assigned: b 2 3",
            "at rest: a 0 1, b 2 3",
            "revoked: b 2 3",
            "assigned: a 2 3",
            "at rest: a 0 1 2 3, b",
        ]),
        MOVES_THE_LAST,
    ),
    differs(
        Model,
        "cooperative_nobody_gets_what_is_not_given_back",
        Answers(&["while a holds: a 0 1 2 3, b", "afterwards: a 0 1, b 2 3"]),
        MOVES_THE_LAST,
    ),
    differs(
        Model,
        "cooperative_what_a_killed_member_had_moves_when_its_session_ends",
        Answers(&["assigned: a 2 3"]),
        MOVES_THE_LAST,
    ),
    differs(
        Model,
        "cooperative_a_static_member_that_restarts_gets_its_own_back_and_disturbs_nobody",
        Answers(&["assigned: a 0 1", "at rest: a 0 1, b 2 3"]),
        MOVES_THE_LAST,
    ),
    differs(Embedded, "a_record_too_large_for_its_topic_fails_alone", CantBePlayed, NO_SETTINGS),
    differs(
        Embedded,
        "compaction_leaves_the_last_value_of_each_key_where_it_was",
        CantBePlayed,
        NO_SETTINGS,
    ),
    differs(
        Embedded,
        "a_position_that_retention_took_is_out_of_range",
        CantBePlayed,
        NO_ADMIN_CALLS,
    ),
    differs(
        Embedded,
        "a_topic_made_anew_has_another_id_and_an_empty_log",
        CantBePlayed,
        NO_ADMIN_CALLS,
    ),
    differs(
        Embedded,
        "a_topic_is_created_once",
        Answers(&["NoAdminCalls", "NoAdminCalls", "partitions: None"]),
        NO_ADMIN_CALLS,
    ),
    differs(
        Embedded,
        "a_time_has_the_offset_of_the_first_record_not_before_it",
        CantBePlayed,
        "ListOffsets knows the two ends (`rd_kafka_mock_handle_ListOffsets`).",
    ),
    differs(
        Embedded,
        "a_topic_has_its_partitions_and_an_id_and_a_missing_one_has_none",
        Answers(&[
            "partitions: Some(3), None",
            "the id: not known, the same when asked again",
            "another topic's id: the same",
            "a missing topic: Missing",
        ]),
        "Topics can't be described there, so nobody can ask for an id.",
    ),
    differs(
        Embedded,
        "metadata_of_4096_bytes_is_stored_and_one_byte_more_is_not",
        Answers(&["4096: Accepted", "4097: Accepted", "stored: 2 of 4097 bytes"]),
        "Metadata of any length is stored (`rd_kafka_mock_handle_OffsetCommit`).",
    ),
    differs(
        Embedded,
        "a_commit_before_a_revocation_is_acknowledged_is_stored_in_an_eager_group",
        Answers(&["Retry", "nothing"]),
        "Commits are refused while a group rebalances (`rd_kafka_mock_handle_OffsetCommit`, \
         `rd_kafka_mock_cgrp_classic_check_state`).",
    ),
    differs(
        Embedded,
        "a_commit_before_a_revocation_is_acknowledged_is_stored",
        AnswersOneOf(&[&["Accepted", "8"], &["Retry", "nothing"]]),
        "Commits are refused while a group joins and syncs, which takes the session timeout less a \
         second (`rd_kafka_mock_cgrp_classic_check_state`); whether it still does is chance.",
    ),
    differs(
        Embedded,
        "cooperative_of_two_with_one_instance_id_the_former_is_fenced",
        Answers(&["nobody is fenced"]),
        "Instance ids name members and fence none (`rd_kafka_mock_cgrp_classic_member_add`).",
    ),
    differs(
        Embedded,
        "kip_848_of_two_with_one_instance_id_the_latter_is_fenced",
        Answers(&["nobody is fenced"]),
        "The second is answered FENCED_MEMBER_EPOCH, not UNRELEASED_INSTANCE_ID, and tries for ever \
         (`rd_kafka_mock_cgrp_consumer_member_add`).",
    ),
    differs(
        Embedded,
        "range_two_come_and_one_leaves",
        AnswersOneOf(&[
            &[
                "assigned: a 0 1 2 3",
                "at rest: a 0 1 2 3",
                "revoked: a 0 1 2 3",
                "assigned: a 0 1, b 2 3",
                "at rest: a 0 1, b 2 3",
                "revoked: a 0 1, b 2 3",
                "assigned: a 0 1 2 3",
                "at rest: a 0 1 2 3, b",
            ],
            &[
                "assigned: a 0 1 2 3",
                "at rest: a 0 1 2 3",
                "revoked: a 0 1 2 3",
                "assigned: a 2 3, b 0 1",
                "at rest: a 2 3, b 0 1",
                "revoked: a 2 3, b 0 1",
                "assigned: a 0 1 2 3",
                "at rest: a 0 1 2 3, b",
            ],
        ]),
        MEMBERS_BY_ADDRESS,
    ),
    differs(
        Embedded,
        "range_deals_each_topic_by_itself",
        AnswersOneOf(&[&["at rest: a x0 x1 y0 y1, b x2 y2"], &["at rest: a x2 y2, b x0 x1 y0 y1"]]),
        MEMBERS_BY_ADDRESS,
    ),
    differs(
        Embedded,
        "range_what_a_killed_member_had_moves_when_its_session_ends",
        AnswersOneOf(&[
            &["revoked: a 0 1", "assigned: a 0 1 2 3"],
            &["revoked: a 2 3", "assigned: a 0 1 2 3"],
        ]),
        MEMBERS_BY_ADDRESS,
    ),
    differs(
        Embedded,
        "what_is_committed_is_seen_and_what_is_aborted_is_not",
        Answers(&[
            "init done",
            "begin done, stored, commit done",
            "begin done, stored, abort done",
            "begin done, stored, commit done",
            "0: one",
            "1: two",
            "2: three",
            "end at 3",
        ]),
        NO_TRANSACTIONS,
    ),
    differs(
        Embedded,
        "an_open_transaction_holds_back_what_comes_after_it",
        Answers(&[
            "init done",
            "begin done, stored",
            "0: before",
            "1: within",
            "2: after",
            "end at 3",
            "then nothing",
            "the log ends at 3",
            "commit done",
        ]),
        NO_TRANSACTIONS,
    ),
    differs(
        Embedded,
        "who_takes_a_transactional_id_fences_the_former_and_aborts_what_it_left_open",
        Answers(&[
            "init done",
            "begin done, stored",
            "init done",
            "former commit done",
            "0: left open, end at 1",
        ]),
        NO_TRANSACTIONS,
    ),
    differs(
        Embedded,
        "offsets_in_a_transaction_are_committed_with_it_and_dropped_with_it",
        Answers(&[
            "init done",
            "begin done, offset done, abort done",
            "committed: nothing",
            "begin done, offset done",
            "while it is open: nothing",
            "commit done",
            "committed: nothing",
        ]),
        "Offsets in a transaction are answered and not stored \
         (`rd_kafka_mock_handle_TxnOffsetCommit`).",
    ),
];
