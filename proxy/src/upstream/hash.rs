//! XXH64, the hash by which keys find their endpoints: the same in every proxy, and the one that Envoy and gRPC hash
//! rings use. Written after its specification (Collet, "xxHash fast digest algorithm", version 0.1.1).
//!
//! It is fast and spreads well; it does not withstand somebody who looks for collisions, and nothing here relies on that.

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// Bytes that are taken in at once.
const STRIPE_BYTES: usize = 32;
const WORD_BYTES: usize = 8;

/// The hash of bytes, in a family of hashes that the seed chooses from.
pub(crate) fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let stripes = bytes.chunks_exact(STRIPE_BYTES);
    let rest = stripes.remainder();
    let mut hash = match bytes.len() >= STRIPE_BYTES {
        true => converge(stripes, seed),
        false => seed.wrapping_add(PRIME_5),
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    avalanche(consume(hash, rest))
}

/// Mixes a number of its own.
pub(crate) fn mix(number: u64, seed: u64) -> u64 {
    xxh64(&number.to_le_bytes(), seed)
}

fn converge<'b>(stripes: impl Iterator<Item = &'b [u8]>, seed: u64) -> u64 {
    let mut lanes = [
        seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
        seed.wrapping_add(PRIME_2),
        seed,
        seed.wrapping_sub(PRIME_1),
    ];
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe.chunks_exact(WORD_BYTES)) {
            *lane = round(*lane, little_endian(word));
        }
    }
    let [one, two, three, four] = lanes;
    let sum = one.rotate_left(1).wrapping_add(two.rotate_left(7));
    let sum = sum.wrapping_add(three.rotate_left(12)).wrapping_add(four.rotate_left(18));
    lanes.iter().fold(sum, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4))
}

/// Takes in what is left: words of eight bytes, one of four, single bytes.
fn consume(mut hash: u64, rest: &[u8]) -> u64 {
    let words = rest.chunks_exact(WORD_BYTES);
    let mut rest = words.remainder();
    for word in words {
        hash ^= round(0, little_endian(word));
        hash = hash.rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
    }
    if let Some((half, left)) = rest.split_at_checked(WORD_BYTES / 2) {
        hash ^= little_endian(half).wrapping_mul(PRIME_1);
        hash = hash.rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3);
        rest = left;
    }
    for byte in rest {
        hash ^= u64::from(*byte).wrapping_mul(PRIME_5);
        hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
    }
    hash
}

fn avalanche(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(PRIME_2);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(PRIME_3);
    hash ^ hash >> 32
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

/// At most eight bytes as a number.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of other implementations.
    #[test]
    fn it_is_the_hash_that_others_compute() {
        let long = b"Nobody inspects the spammish repetition";
        let table: [(&[u8], u64, u64); 5] = [
            (b"", 0, 0xEF46_DB37_51D8_E999),
            (b"a", 0, 0xD24E_C4F1_A98C_6E5B),
            (b"abc", 0, 0x44BC_2CF5_AD77_0999),
            (b"xxhash", 20_141_025, 13_067_679_811_253_438_005),
            (long, 0, 0xFBCE_A83C_8A37_8BF1),
        ];
        for (bytes, seed, expected) in table {
            assert_eq!(xxh64(bytes, seed), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn every_length_up_to_two_stripes_has_a_hash_of_its_own() {
        let bytes = [7_u8; 2 * STRIPE_BYTES];
        let mut hashes: Vec<_> = (0..=bytes.len()).map(|end| xxh64(&bytes[..end], 0)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), bytes.len() + 1);
    }
}
