//! Q5_K: Q4_K with a fifth bit: for 256 columns 128 bytes of nibbles; 32 bytes `qh` of high bits; the header of
//! [`q4_k`](super::q4_k). Bit `j` of byte `l` of `qh` belongs to column `l` of sub-block `j`.

use ptx_builder::{B32, F32, KernelBuilder, Reg, U32};

use super::partition::{BitFields, Partition, own, shared, stream};
use super::q4_k::{self, Fifth, SubBlocks};
use super::scale::biased_byte;
use super::weight::{Q8Part, Raw};

/// The parts of Q4_K. All share the 32 bytes of `qh`.
pub(super) fn partition() -> Partition {
    let q4_k = q4_k::partition();
    Partition {
        planes: vec![128, 32, 16],
        streams: vec![q4_k.streams[0], stream(1, BitFields::ZERO), stream(2, BitFields::ZERO)],
        loads: vec![own(0, 0, 16), own(0, 64, 16), shared(1, 0, 16), shared(1, 16, 16), shared(2, 0, 16)],
        ..q4_k
    }
}

/// Where a part's header and high bits are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bits {
    sub_blocks: SubBlocks,
    /// The number of the first sub-block, which is that of its bit.
    shift: Reg<U32>,
}

impl Bits {
    pub(super) fn new(k: &mut KernelBuilder, part: Reg<U32>) -> Self {
        Self { sub_blocks: SubBlocks::new(k, part), shift: k.shl::<U32>(part, 1u32) }
    }
}

/// `d * scale`, then `-dmin * min`, of both sub-blocks.
pub(super) fn factors(k: &mut KernelBuilder, bits: Bits, raw: &Raw) -> Vec<Reg<F32>> {
    q4_k::factors(k, bits.sub_blocks, &raw.words[16..]).to_vec()
}

/// Four quants of sub-block `run`, one in each byte.
fn quants(k: &mut KernelBuilder, bits: Bits, raw: &Raw, run: usize, quad: usize) -> Reg<B32> {
    let low = super::nibbles(k, raw.words[quad], run);
    let high = k.shr::<B32>(raw.words[8 + quad], bits.shift);
    let high = k.shl::<B32>(high, 4 - run as u32);
    let high = k.and::<B32>(high, 0x1010_1010u32);
    k.or::<B32>(low, high)
}

/// The weights, rounded once.
pub(super) fn values(
    k: &mut KernelBuilder,
    bits: Bits,
    raw: &Raw,
    factors: &[Reg<F32>],
    run: usize,
    quad: usize,
) -> Vec<Reg<F32>> {
    let word = quants(k, bits, raw, run, quad);
    let (scale, min) = (factors[2 * run], factors[2 * run + 1]);
    (0..4)
        .map(|i| {
            let q = biased_byte(k, word, i, 0);
            k.fma::<F32>(scale, q, min)
        })
        .collect()
}

pub(super) fn q8_part(k: &mut KernelBuilder, bits: Bits, raw: &Raw) -> Q8Part {
    let words = (0..2).flat_map(|run| (0..8).map(move |quad| (run, quad)));
    let words = words.map(|(run, quad)| quants(k, bits, raw, run, quad)).collect();
    q4_k::part_of(k, bits.sub_blocks, words, (&raw.words[16..], Fifth::InPlane(1)))
}
