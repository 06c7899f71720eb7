//! How does something valid become something foreign? Bits flip, parts are lost, doubled, moved.
//!
//! For the tests in each crate that feed its readers with foreign bytes (`foreign_bytes.rs`).

use proptest::prelude::*;
use proptest::sample::Index;

/// One thing that happens to some bytes.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Lose(Index, Index),
    Double(Index, Index),
    Insert(Index, Vec<u8>),
    /// A piece of it goes elsewhere.
    Move(Index, Index, Index),
}

/// Valid bytes after a few damages, often none of them valid any more.
pub(crate) fn damaged(valid: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (valid, prop::collection::vec(damage(), 1..5)).prop_map(|(mut bytes, damages)| {
        for damage in damages {
            damage.happen(&mut bytes);
        }
        bytes
    })
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    // What readers look for: separators, signs, ends, and bytes that are no text.
    let telling =
        prop::sample::select(&b" =:-_.,#\"'[]{}()<>\\/\0\r\n\t0123456789+eE\x7f\x80\xff"[..]);
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        prop::collection::vec(telling, 1..4),
        (any::<u8>(), 10usize..3_000).prop_map(|(byte, times)| vec![byte; times]),
    ];
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits.max(1))),
        at().prop_map(Damage::Cut),
        (at(), at()).prop_map(|(from, to)| Damage::Lose(from, to)),
        (at(), at()).prop_map(|(from, to)| Damage::Double(from, to)),
        (at(), bytes).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at(), at(), at()).prop_map(|(from, to, at)| Damage::Move(from, to, at)),
    ]
}

impl Damage {
    fn happen(self, bytes: &mut Vec<u8>) {
        let place = |at: Index, bytes: &[u8]| at.index(bytes.len() + 1);
        let part = |from: Index, to: Index, bytes: &[u8]| {
            let (from, to) = (place(from, bytes), place(to, bytes));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Flip(at, bits) => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= bits;
                }
            }
            Self::Cut(at) => bytes.truncate(place(at, bytes)),
            Self::Lose(from, to) => drop(bytes.drain(part(from, to, bytes))),
            Self::Double(from, to) => {
                let part = part(from, to, bytes);
                let (end, copy) = (part.end, bytes[part].to_vec());
                bytes.splice(end..end, copy);
            }
            Self::Insert(at, new) => {
                let at = place(at, bytes);
                bytes.splice(at..at, new);
            }
            Self::Move(from, to, at) => {
                let piece: Vec<_> = bytes.drain(part(from, to, bytes)).collect();
                let at = place(at, bytes);
                bytes.splice(at..at, piece);
            }
        }
    }
}
