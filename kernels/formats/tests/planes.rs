//! The layout in planes: written out by hand for each type, a permutation, and the same in pieces.

mod common;

use std::ops::Range;
use std::slice::from_ref;

use common::Random;
use proptest::prelude::*;
use tensor_formats::{ElementType, FormatError, PlaneLayout, from_planes, planes_range, to_planes};

fn in_planes(ty: ElementType, rows: usize, cols: usize, gguf: &[u8]) -> Vec<u8> {
    let mut out = vec![0xee; gguf.len()];
    to_planes(ty, rows, cols, gguf, &mut out).unwrap();
    out
}

fn random_bytes(seed: u64, n: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..n).map(|_| random.next() as u8).collect()
}

/// The bytes `range` of each block in turn; the quants of the large types in their order on a device.
fn of_each_block(ty: ElementType, gguf: &[u8], block_bytes: usize, range: Range<usize>) -> Vec<u8> {
    let order = match ty {
        ElementType::Q4_K | ElementType::Q5_K => [0, 2, 4, 6, 1, 3, 5, 7],
        ElementType::Q6_K => [0, 1, 4, 5, 2, 3, 6, 7],
        _ => [0, 1, 2, 3, 4, 5, 6, 7],
    };
    let block = |block: &[u8]| match &block[range.clone()] {
        quants if quants.len() == 128 => order.map(|piece| quants[16 * piece..][..16].to_vec()).concat(),
        other => other.to_vec(),
    };
    gguf.chunks_exact(block_bytes).flat_map(block).collect()
}

#[test]
fn the_planes_of_each_type_are_those_of_the_definition() {
    // Three rows of two blocks. GGUF's offsets, from ggml-common.h.
    let (rows, blocks) = (3, 2);
    let cases: [(ElementType, usize, &[Range<usize>]); 8] = [
        (ElementType::F32, 4, from_ref(&(0..4))),
        (ElementType::F16, 2, from_ref(&(0..2))),
        (ElementType::BF16, 2, from_ref(&(0..2))),
        // d | quants
        (ElementType::Q4_0, 18, &[2..18, 0..2]),
        (ElementType::Q8_0, 34, &[2..34, 0..2]),
        // d, dmin, scales | quants
        (ElementType::Q4_K, 144, &[16..144, 0..16]),
        // d, dmin, scales | high bits | low bits
        (ElementType::Q5_K, 176, &[48..176, 16..48, 0..16]),
        // low bits | high bits | scales | d
        (ElementType::Q6_K, 210, &[0..128, 128..192, 192..208, 208..210]),
    ];
    assert_eq!(cases.len(), ElementType::WEIGHTS.len());
    for (ty, block_bytes, planes) in cases {
        let cols = blocks * ty.block_elements();
        let gguf = random_bytes(1, rows * blocks * block_bytes);
        let expected: Vec<Vec<u8>> =
            planes.iter().map(|range| of_each_block(ty, &gguf, block_bytes, range.clone())).collect();
        let device = in_planes(ty, rows, cols, &gguf);
        assert_eq!(device, expected.concat(), "{ty}");

        let layout = PlaneLayout::new(ty, rows, cols).unwrap();
        assert_eq!((layout.bytes(), layout.element()), (device.len(), ty));
        let spans: Vec<_> = layout.planes().collect();
        assert_eq!(spans.len(), planes.len(), "{ty}");
        for (span, (range, bytes)) in spans.iter().zip(planes.iter().zip(&expected)) {
            assert_eq!(&device[span.offset..][..span.bytes], bytes, "{ty}");
            assert_eq!((span.block_bytes, span.row_bytes), (range.len(), blocks * range.len()));
            // The last row's last block, where the documentation says that it is.
            let at = span.offset + 2 * span.row_bytes + span.block_bytes;
            let last = of_each_block(ty, &gguf[5 * block_bytes..], block_bytes, range.clone());
            assert_eq!(&device[at..][..range.len()], last, "{ty}");
        }
    }
}

#[test]
fn two_blocks_of_q8_0_byte_by_byte() {
    // Two blocks: scales 1 2 and 3 4, then quants 10, 11, .. and 50, 51, ...
    let gguf: Vec<u8> = [1, 2].into_iter().chain(10..42).chain([3, 4]).chain(50..82).collect();
    let expected: Vec<u8> = (10..42).chain(50..82).chain([1, 2, 3, 4]).collect();
    assert_eq!(in_planes(ElementType::Q8_0, 2, 32, &gguf), expected);
    assert_eq!(in_planes(ElementType::Q8_0, 1, 64, &gguf), expected);
}

#[test]
fn every_byte_appears_once() {
    for ty in ElementType::WEIGHTS {
        let (rows, cols) = (5, 3 * ty.block_elements());
        let n = ty.matrix_bytes(rows, cols).unwrap();
        // Each byte's index, a digit at a time.
        let digits = [0, 8, 16]
            .map(|shift| in_planes(ty, rows, cols, &(0..n).map(|i| (i >> shift) as u8).collect::<Vec<_>>()));
        let mut seen: Vec<usize> = (0..n)
            .map(|i| digits.iter().rev().fold(0, |index, digit| index << 8 | usize::from(digit[i])))
            .collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..n), "{ty}");
    }
}

#[test]
fn wide_planes_are_aligned() {
    for ty in ElementType::WEIGHTS.into_iter().filter(|ty| ty.is_quantised()) {
        for (rows, blocks) in [(1, 1), (3, 5), (7, 1)] {
            let layout = PlaneLayout::new(ty, rows, blocks * ty.block_elements()).unwrap();
            for span in layout.planes() {
                assert_eq!(span.offset % 16, 0, "{ty}");
                assert!(span.block_bytes % 16 == 0 || span.block_bytes == 2, "{ty}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let gguf = [0; 288];
    let mut out = [0; 288];
    let q4_k = ElementType::Q4_K;
    for ty in [ElementType::Q8Act, ElementType::U32] {
        assert!(ty.planes().is_empty());
        let error = PlaneLayout::new(ty, 2, 256).unwrap_err();
        assert_eq!(error.to_string(), format!("a layout in planes is not defined for {ty}"));
    }
    assert!(matches!(PlaneLayout::new(q4_k, 2, 255), Err(FormatError::PartialBlock { .. })));
    assert!(matches!(PlaneLayout::new(q4_k, usize::MAX, 256), Err(FormatError::Overflow { .. })));
    let length = |result| matches!(result, Err(FormatError::Length { .. }));
    assert!(length(to_planes(q4_k, 2, 256, &gguf[1..], &mut out)));
    assert!(length(to_planes(q4_k, 2, 256, &gguf, &mut out[1..])));
    assert!(length(from_planes(q4_k, 2, 256, &gguf[1..], &mut out)));
    assert!(length(from_planes(q4_k, 2, 256, &gguf, &mut out[1..])));
    assert!(length(planes_range(q4_k, 2, 256, &gguf, 280..289, &mut out[..9])));
    assert!(length(planes_range(q4_k, 2, 256, &gguf, Range { start: 9, end: 8 }, &mut [])));
    assert!(length(planes_range(q4_k, 2, 256, &gguf, 0..8, &mut out[..9])));
    assert_eq!(planes_range(q4_k, 2, 256, &gguf, 288..288, &mut []), Ok(()));
    assert_eq!(to_planes(q4_k, 0, 256, &[], &mut []), Ok(()));
    assert_eq!(to_planes(q4_k, 2, 0, &[], &mut []), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back_is_the_identity_and_ranges_join(
        seed: u64, ty in prop::sample::select(&ElementType::WEIGHTS[..]), rows in 0usize..6, blocks in 0usize..6,
        pieces in 1u64..9,
    ) {
        let cols = blocks * ty.block_elements();
        let gguf = random_bytes(seed, ty.matrix_bytes(rows, cols).unwrap());
        let device = in_planes(ty, rows, cols, &gguf);
        let mut back = vec![0xee; gguf.len()];
        from_planes(ty, rows, cols, &device, &mut back).unwrap();
        prop_assert_eq!(&back, &gguf);

        // Cuts anywhere, within blocks as well, and some of them in the same place.
        let mut random = Random(!seed);
        let mut cuts: Vec<usize> =
            (1..pieces).map(|_| random.below(device.len() as u64 + 1) as usize).collect();
        cuts.extend([0, device.len()]);
        cuts.sort_unstable();
        let mut joined = Vec::new();
        for cut in cuts.windows(2) {
            let mut piece = vec![0xee; cut[1] - cut[0]];
            planes_range(ty, rows, cols, &gguf, cut[0]..cut[1], &mut piece).unwrap();
            joined.extend(piece);
        }
        prop_assert_eq!(joined, device);
    }
}
