//! What if a commit's metadata was written by anybody? It is refused in few words, or it is sound.
//!
//! `cargo +nightly fuzz run envelope`; upholds INV-8.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pelton_engine::{Envelope, METADATA_LIMIT_BYTES};

/// A body with a checksum that fits: chance alone finds none.
fn sealed(version: &str, body: &str) -> String {
    let fold = |sum: u32, byte: u8| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    format!("pelton{version} {:08x} {body}", body.bytes().fold(0x811c_9dc5, fold))
}

fn read(text: &str) -> Option<Envelope> {
    match Envelope::decode(text) {
        Ok(None) => {
            assert!(!text.starts_with("pelton"), "it is ours, and is said not to be");
            None
        }
        Ok(Some(envelope)) => {
            let again = envelope.encode();
            assert!(again.len() <= METADATA_LIMIT_BYTES);
            assert!(matches!(Envelope::decode(&again), Ok(Some(_))), "it can't read itself");
            Some(envelope)
        }
        Err(error) => {
            assert!(error.to_string().len() < 200, "{error}");
            None
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    read(&text);
    read(&sealed("1", &text));
    assert_eq!(read(&sealed("2", &text)), None, "a later version's is acted on");
});
