//! Which partition does Java's producer choose for a key?

/// Kafka's murmur2 of `data` (seed 0x9747b28c), as `org.apache.kafka.common.utils.Utils.murmur2`.
///
/// ```
/// assert_eq!(pelton_testkit::murmur2(b""), 275_646_681);
/// ```
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        k = k.wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition Java's producer chooses for a record with this key.
///
/// ```
/// assert_eq!(pelton_testkit::partition_for_key(b"admin", 3), 1);
/// ```
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & i32::MAX) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_kafkas_own_client_hashes_them() {
        // From the project's vectors, made with kafka-clients 4.3.1.
        for (key, hash, of_8) in
            [("", 275_646_681, 1), ("admin", -1_224_359_674, 6), ("ajay", -1_299_753, 7)]
        {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key:?}");
            assert_eq!(partition_for_key(key.as_bytes(), 8), of_8, "{key:?}");
        }
    }
}
