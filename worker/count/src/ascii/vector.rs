//! Classifier for AVX2, and the choice between the classifiers. The only unsafe code of the crate.
//!
//! The features of the processor are checked once for each run of text instead of for each block,
//! so that the whole loop is compiled for them. Tests compare both classifiers.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, _mm256_add_epi8, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_loadu_si256,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
};

#[cfg(target_arch = "x86_64")]
use super::{BLOCK_BYTES, Masks};
use super::{WordSink, count_with, portable};

/// Like [`super::count`], with the fastest classifier for this processor.
pub(super) fn count(bytes: &[u8], start: usize, words: &mut WordSink) -> usize {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        #[expect(unsafe_code, reason = "the function requires features of the processor")]
        // SAFETY: `has_avx2` has checked all features that the function is compiled for.
        return unsafe { count_avx2(bytes, start, words) };
    }
    count_with(bytes, start, words, portable::classify)
}

/// Returns whether the processor has all features that [`count_avx2`] is compiled for.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn count_avx2(bytes: &[u8], start: usize, words: &mut WordSink) -> usize {
    count_with(bytes, start, words, |block| classify(block))
}

/// Classifies a block, 32 bytes at a time.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn classify(block: &[u8; BLOCK_BYTES]) -> Masks {
    let [first, second] = block.as_chunks::<32>().0 else { return Masks::default() };
    let first = classify_half(first);
    let second = classify_half(second);
    let both = |first: u32, second: u32| u64::from(first) | u64::from(second) << 32;
    Masks {
        letter: both(first.letter, second.letter),
        digit: both(first.digit, second.digit),
        connector: both(first.connector, second.connector),
        between_letters: both(first.between_letters, second.between_letters),
        between_digits: both(first.between_digits, second.between_digits),
        space: both(first.space, second.space),
        non_ascii: both(first.non_ascii, second.non_ascii),
    }
}

/// [`Masks`] of half a block.
#[cfg(target_arch = "x86_64")]
struct HalfMasks {
    letter: u32,
    digit: u32,
    connector: u32,
    between_letters: u32,
    between_digits: u32,
    space: u32,
    non_ascii: u32,
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "bytes are loaded through a pointer")]
fn classify_half(half: &[u8; 32]) -> HalfMasks {
    // SAFETY: `half` has 32 bytes, and the load does not require alignment.
    let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
    let is = |byte: u8| _mm256_cmpeq_epi8(bytes, splat(byte));
    let dots = _mm256_or_si256(is(b'\''), is(b'.'));
    let commas = _mm256_or_si256(is(b','), is(b';'));
    // Setting bit 5 maps all letters, and no other bytes, to the range from `a` to `z`.
    let lower = _mm256_or_si256(bytes, splat(0x20));
    HalfMasks {
        letter: top_bits(in_range(lower, b'a', b'z')),
        digit: top_bits(in_range(bytes, b'0', b'9')),
        connector: top_bits(is(b'_')),
        between_letters: top_bits(_mm256_or_si256(dots, is(b':'))),
        between_digits: top_bits(_mm256_or_si256(dots, commas)),
        space: top_bits(_mm256_or_si256(in_range(bytes, b'\t', b'\r'), is(b' '))),
        non_ascii: top_bits(bytes),
    }
}

/// Returns 0xff for each byte from `first` to `last`, and 0 for the others.
///
/// AVX2 has only a signed comparison, so the bytes are shifted: `first` becomes -128, the lowest
/// value.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn in_range(bytes: __m256i, first: u8, last: u8) -> __m256i {
    let shifted = _mm256_add_epi8(bytes, splat(0x80_u8.wrapping_sub(first)));
    let end = 0x80_u8.wrapping_add(last.wrapping_sub(first)).wrapping_add(1);
    _mm256_cmpgt_epi8(splat(end), shifted)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn splat(byte: u8) -> __m256i {
    _mm256_set1_epi8(byte.cast_signed())
}

/// Returns a mask of the top bits: bit n is the top bit of byte n.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn top_bits(bytes: __m256i) -> u32 {
    _mm256_movemask_epi8(bytes).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn both_classifiers_agree() {
        let mut random = Random::new(3);
        let blocks = (0..20_000).map(|turn| {
            let span = if turn % 2 == 0 { 256 } else { 128 };
            [(); BLOCK_BYTES].map(|()| u8::try_from(random.below(span)).unwrap())
        });
        let uniform = (0..=u8::MAX).map(|byte| [byte; BLOCK_BYTES]);
        for block in blocks.chain(uniform) {
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                #[expect(unsafe_code, reason = "the function requires AVX2")]
                // SAFETY: `has_avx2` has checked the features.
                let masks = unsafe { classify(&block) };
                assert_eq!(masks, portable::classify(&block), "{block:?}");
            }
        }
    }
}
