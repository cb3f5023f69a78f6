//! Damaged files: whatever the bytes, an error or a sound file, in bounded memory.

use proptest::prelude::*;

use super::tests::sample;
use super::*;

/// Opens the image and touches everything that it gives out.
fn explore(bytes: &[u8]) {
    let Ok(gguf) = Gguf::parse(Storage::copy(bytes).unwrap()) else { return };
    for (key, value) in gguf.metadata().iter() {
        gguf.metadata().display(value);
        let _ = gguf.metadata().strings(key);
        let _ = gguf.metadata().opt_i32s(key);
    }
    for tensor in gguf.tensors() {
        if let Ok(bytes) = gguf.tensor_bytes(&tensor.name) {
            assert_eq!(Some(bytes.len()), tensor.byte_len());
            std::hint::black_box(bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)));
        }
    }
    let _ = crate::Model::from_gguf(gguf);
}

#[test]
fn every_truncation_is_an_error_or_loses_only_padding() {
    let bytes = sample().finish().unwrap();
    let whole = Gguf::parse(Storage::copy(&bytes).unwrap()).unwrap();
    let end = whole.tensors().iter().filter_map(|t| Some(t.bytes.clone()?.end)).max().unwrap();
    for length in 0..bytes.len() {
        let cut = Gguf::parse(Storage::copy(&bytes[..length]).unwrap());
        assert_eq!(cut.is_ok(), length >= end, "{length} bytes of {end}");
    }
}

#[test]
fn every_single_byte_change_is_survived() {
    let bytes = sample().finish().unwrap();
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            explore(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_changes_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = sample().finish().unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let length = if cuts { cut.index(bytes.len()) } else { bytes.len() };
        explore(&bytes[..length]);
    }

    #[test]
    fn random_words_are_survived(words in prop::collection::vec(prop_oneof![
        0u64..16, Just(u64::MAX), Just(1 << 63), Just(u64::from(u32::MAX)), any::<u64>()
    ], 0..64)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        explore(&bytes);
    }

    #[test]
    fn changes_in_a_real_header_are_survived(
        changes in prop::collection::vec((0usize..60_000, any::<u8>()), 1..8),
    ) {
        // The first part of a real model is header; its tensors are then outside the file, which must be noticed.
        let image = include_bytes!("../../assets/tiny-q4_k_m.gguf");
        let mut bytes = image[..60_000].to_vec();
        for (at, value) in changes {
            bytes[at] = value;
        }
        explore(&bytes);
    }
}
