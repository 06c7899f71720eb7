//! What if a commit's metadata was written by anybody? It is never acted on, and never a panic.
//!
//! `PROPTEST_CASES=1000000 cargo test -p pelton-engine foreign_bytes` is the long form.

use proptest::prelude::*;

use crate::damage::damaged;
use crate::envelope::sealed;
use crate::{
    DoneSet, DoneSetDamaged, Envelope, EnvelopeError, Hand, Holds, METADATA_LIMIT_BYTES, Offset,
    Window,
};

fn envelope() -> impl Strategy<Value = Envelope> {
    let word = "[A-Za-z0-9_-]{0,30}";
    let fields =
        (prop::option::of(word), prop::option::of(word), any::<u32>(), prop::option::of(0i64..));
    (fields, prop::option::of((word, any::<u64>())), prop::option::of(done_set())).prop_map(
        |((cluster, topic, partitions, window), incarnation, done_set)| Envelope {
            cluster,
            topic,
            partitions,
            incarnation,
            marks: Vec::new(),
            window: window.map(|until| Window {
                until: Offset(until),
                suspects: Offset(until),
                hand: Hand::Below(Offset(7)),
                deaths: 2,
            }),
            holds: Holds::default(),
            done_set,
        },
    )
}

/// Whatever it says, it says it in few words, and what it takes it could have written.
fn is_sound(text: &str) -> Result<Option<Envelope>, TestCaseError> {
    match Envelope::decode(text) {
        Ok(None) => {
            prop_assert!(!text.starts_with("pelton"));
            Ok(None)
        }
        Ok(Some(envelope)) => {
            let again = envelope.encode();
            prop_assert!(again.len() <= METADATA_LIMIT_BYTES);
            prop_assert!(matches!(Envelope::decode(&again), Ok(Some(_))));
            Ok(Some(envelope))
        }
        Err(error) => {
            prop_assert!(error.to_string().len() < 200, "{}", error);
            Ok(None)
        }
    }
}

fn done_set() -> impl Strategy<Value = DoneSet> {
    (0i64..1 << 40, prop::collection::vec((1i64..90, 1i64..90), 1..40)).prop_map(
        |(base, lengths)| {
            let (mut set, mut at) = (DoneSet::above(Offset(base)), base);
            for (open, done) in lengths {
                set.push(Offset(at + open), Offset(at + open + done - 1));
                at += open + done;
            }
            set
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        is_sound(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn inv_8_a_damaged_envelope_is_not_acted_on(
        valid in envelope(),
        bytes in damaged(envelope().prop_map(|valid| valid.encode().into_bytes())),
        at in any::<prop::sample::Index>(), bits in 1u8..,
    ) {
        is_sound(&String::from_utf8_lossy(&bytes))?;
        // A byte that has changed is always found: the checksum never forgets one.
        let mut one = valid.encode().into_bytes();
        let at = at.index(one.len());
        one[at] ^= bits;
        if let Some(read) = is_sound(&String::from_utf8_lossy(&one))? {
            prop_assert_eq!(read, valid, "only the case of the checksum's digits may differ");
        }
    }

    /// With a checksum that fits, as by a later version or by somebody who means it.
    #[test]
    fn a_foreign_body_with_a_right_checksum_is_read_or_refused(
        bytes in damaged(envelope().prop_map(|valid| {
            valid.encode().splitn(3, ' ').nth(2).unwrap_or_default().as_bytes().to_vec()
        })),
    ) {
        let body = String::from_utf8_lossy(&bytes);
        is_sound(&sealed("1", &body))?;
        let later = Envelope::decode(&sealed("2", &body));
        prop_assert_eq!(later, Err(EnvelopeError::Version("2".to_owned())));
    }

    /// What is taken names something, up to what it says, and nothing below its base.
    #[test]
    fn a_foreign_done_set_is_read_or_refused(
        bytes in damaged(done_set().prop_map(|valid| valid.encode(METADATA_LIMIT_BYTES).into_bytes())),
    ) {
        let text = String::from_utf8_lossy(&bytes);
        match DoneSet::decode(&text) {
            Err(DoneSetDamaged) => {}
            Ok(set) => {
                let highest = set.highest().map(|highest| highest.0);
                let said = text.split(['-', 'b', 'r']).nth(1).and_then(|said| said.parse().ok());
                prop_assert_eq!(highest, said);
                prop_assert!(!set.is_empty() && !set.contains(Offset(set.base().0 - 1)));
                let again = DoneSet::decode(&set.encode(METADATA_LIMIT_BYTES));
                prop_assert!(again.is_ok_and(|again| again.base() == set.base()));
            }
        }
    }
}
