//! What the kernels that sample share: how a row lies over blocks, its parameters, and the definition as instructions.

use ptx_builder::{
    Addr, AtomOp, AtomOrder, Atomic, CvtRound, F32, KernelBuilder, Load, Pred, Reg, S32, Scope, Space, U32,
    U64,
};

use super::SamplingParams;
use super::definition::{EXP2, PHILOX_FACTORS, PHILOX_KEYS, TOKEN_BITS};
use crate::support::{dim, dim_up_to, extent, f32_vector, refuse};
use crate::{KernelError, LaunchGeometry};

/// Threads of a block.
pub(super) const THREADS: u32 = 256;
/// Consecutive tokens of a thread.
pub(super) const LANES: u32 = 4;
/// Consecutive tokens of a block.
pub(super) const SLICE: u32 = THREADS * LANES;
/// The largest vocabulary: every slice has a thread of a block.
pub(super) const MAX_N: usize = 1 << TOKEN_BITS;

const _: () = assert!(MAX_N as u32 == SLICE * THREADS);

/// Rows of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    pub rows: u32,
    pub n: u32,
}

impl Rows {
    pub fn new(family: &'static str, rows: usize, n: usize) -> Result<Self, KernelError> {
        let (rows, n) = (dim(family, "rows", rows)?, dim_up_to(family, "n", n, MAX_N)?);
        extent(family, "x", &[rows, n])?;
        Ok(Self { rows, n })
    }

    /// Blocks of a row.
    pub const fn blocks(&self) -> u32 {
        self.n.div_ceil(SLICE)
    }

    pub const fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry { grid: [self.rows, self.blocks(), 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    /// Elements of an access to the logits.
    pub const fn vector(&self) -> u32 {
        f32_vector(self.n)
    }

    pub const fn elements(&self) -> u64 {
        self.rows as u64 * self.n as u64
    }

    /// The address of the logit of `token`, which is a multiple of 4, in the block's row.
    pub fn logit(&self, k: &mut KernelBuilder, x: Reg<U64>, token: Reg<U32>) -> Reg<U64> {
        let row = k.ctaid_x();
        let row = k.ptr_index(x, row, self.n * 4);
        k.ptr_index(row, token, 4)
    }

    /// The logits of `token`, which is a multiple of 4, and those after it; -inf beyond the row.
    pub fn logits(&self, k: &mut KernelBuilder, at: Reg<U64>, token: Reg<U32>) -> [Reg<F32>; 4] {
        let none = f32::NEG_INFINITY;
        if self.vector() == 4 {
            let inside = k.lt(token, self.n);
            return k.load_v4_or::<F32>(inside, Space::Global, Load::WEAK, at, none);
        }
        std::array::from_fn(|lane| {
            let token = if lane == 0 { token } else { k.add(token, lane as u32) };
            let inside = k.lt(token, self.n);
            k.load_or::<F32>(inside, Space::Global, Load::WEAK, at + 4 * lane as i32, none)
        })
    }
}

/// Positions of sequences whose tokens are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct History {
    pub sequences: u32,
    pub positions: u32,
}

impl History {
    pub fn new(family: &'static str, sequences: usize, positions: usize) -> Result<Self, KernelError> {
        let (sequences, positions) =
            (dim(family, "sequences", sequences)?, dim(family, "positions", positions)?);
        if u64::from(sequences) * u64::from(positions) > u64::from(u32::MAX) {
            return Err(refuse(family, format!("{sequences} x {positions} tokens of history")));
        }
        extent(family, "history", &[sequences, positions])?;
        Ok(Self { sequences, positions })
    }

    pub const fn elements(&self) -> u64 {
        self.sequences as u64 * self.positions as u64
    }

    /// The tokens of the block's row, given which sequence it is of.
    pub fn of_row(&self, k: &mut KernelBuilder, history: Reg<U64>, sequences: Reg<U64>) -> Reg<U64> {
        let sequence = word_of_row(k, sequences);
        let first = k.mul(sequence, self.positions);
        k.ptr_index(history, first, 4)
    }
}

/// Word `row` of a vector, for the block's row.
pub(super) fn word_of_row(k: &mut KernelBuilder, vector: Reg<U64>) -> Reg<U32> {
    let row = k.ctaid_x();
    let at = k.ptr_index(vector, row, 4);
    k.ld_global::<U32>(at)
}

/// The thread's first token of slice `slice`.
pub(super) fn first_token(k: &mut KernelBuilder, thread: Reg<U32>, slice: Reg<U32>) -> Reg<U32> {
    let first = k.mul(thread, LANES);
    k.mad(slice, SLICE, first)
}

/// The parameters of the block's row, as [`SamplingParams::words`] has them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowParams {
    pub scale: Reg<F32>,
    pub top_k: Reg<U32>,
    pub least: Reg<U32>,
    pub top_p: Reg<U64>,
    pub seed: [Reg<U32>; 2],
}

impl RowParams {
    pub fn load(k: &mut KernelBuilder, params: Reg<U64>) -> Self {
        let at = Self::at(k, params);
        let [scale, top_k, least, _] = k.ld_global_v4::<U32>(at);
        let [_, _, low, high] = k.ld_global_v4::<U32>(at + 16);
        let seed = k.ld_global_v2::<U32>(at + 32);
        let top_p = k.pack64(low, high).cast::<U64>();
        Self { scale: k.bits_to_f32(scale), top_k, least, top_p, seed }
    }

    pub fn at(k: &mut KernelBuilder, params: Reg<U64>) -> Reg<U64> {
        let row = k.ctaid_x();
        k.ptr_index(params, row, 4 * SamplingParams::WORDS as u32)
    }

    /// `total` times the share `top_p`.
    pub fn wanted(&self, k: &mut KernelBuilder, total: Reg<U64>) -> Reg<U64> {
        k.mul_hi(total, self.top_p)
    }
}

/// What a token is worth beside the most likely one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worth {
    pub weight: Reg<U32>,
    /// Its bin, if it weighs enough to take part.
    pub bin: Reg<U32>,
}

impl Worth {
    /// [`weight`](super::definition::weight) and [`bin`](super::definition::bin).
    pub fn new(k: &mut KernelBuilder, logit: Reg<F32>, largest: Reg<F32>, params: &RowParams) -> Self {
        let distance = k.sub(logit, largest);
        let exponent = k.mul(distance, params.scale);
        let exponent = k.max(exponent, -64.0);
        let whole = k.cvt_round::<S32>(CvtRound::Rmi, exponent);
        let floor = k.cvt::<F32>(whole);
        let fraction = k.sub(exponent, floor);
        let [c0, c1, c2, c3, c4, c5] = EXP2;
        let mut series = k.imm::<F32>(c5);
        for c in [c4, c3, c2, c1, c0, 1.0] {
            series = k.fma(series, fraction, c);
        }
        let mantissa = k.mul(series, 8_388_608.0);
        let mantissa = k.cvt::<U32>(mantissa);
        let mantissa = k.min(mantissa, (1 << 24) - 1);
        let mantissa = k.shl(mantissa, 8);
        let by = k.neg(whole).cast::<U32>();
        let weight = k.shr(mantissa, by);
        let magnitude = k.clz(weight);
        let digits = k.shl(weight, magnitude);
        let digits = k.not(digits);
        let digits = k.bfe(digits, 26, 5);
        let bin = k.mad(magnitude, 32, digits);
        Self { weight, bin }
    }

    /// Whether it weighs enough to take part.
    pub fn counts(&self, k: &mut KernelBuilder, params: &RowParams) -> Pred {
        k.ge(self.weight, params.least)
    }
}

/// [`rank`](super::definition::rank) of a logit that is a number.
pub(super) fn rank(k: &mut KernelBuilder, logit: Reg<F32>, token: Reg<U32>) -> Reg<U64> {
    let bits = k.f32_to_bits(logit).cast::<U32>();
    let order = flip(k, bits);
    let order = k.widen(order);
    let order = k.shl(order, TOKEN_BITS);
    let token = k.widen(token);
    k.or(order, token)
}

/// The logit of a rank.
pub(super) fn logit_of(k: &mut KernelBuilder, rank: Reg<U64>) -> Reg<F32> {
    let order = k.shr(rank, TOKEN_BITS);
    let order = k.cvt::<U32>(order);
    let bits = flip(k, order);
    k.bits_to_f32(bits)
}

/// The token of a rank.
pub(super) fn token_of(k: &mut KernelBuilder, rank: Reg<U64>) -> Reg<U32> {
    let low = k.cvt::<U32>(rank);
    k.and(low, (1 << TOKEN_BITS) - 1)
}

/// The complement of a key from the bits of a number, and back.
fn flip(k: &mut KernelBuilder, bits: Reg<U32>) -> Reg<U32> {
    let negative = k.lt(bits.cast::<S32>(), 0);
    let flipped = k.selp(negative, 0u32, 0x7fff_ffff);
    k.xor(bits, flipped)
}

/// [`random_bits`](super::definition::random_bits).
pub(super) fn random_bits(k: &mut KernelBuilder, seed: [Reg<U32>; 2], position: Reg<U32>) -> Reg<U64> {
    // Without words that are zero, and without those of the last rounds that no other needs.
    let [mut a, mut b, mut c, mut d] = [Some(position), None, None, None];
    let product = |k: &mut KernelBuilder, word: Option<Reg<U32>>, factor| {
        let product = k.mul_wide(word?, factor);
        Some(k.unpack64::<U32>(product))
    };
    for round in 0..10u32 {
        let mixed =
            |k: &mut KernelBuilder, i: usize, word: Option<Reg<U32>>, product: Option<[Reg<U32>; 2]>| {
                let key =
                    if round == 0 { seed[i] } else { k.add(seed[i], PHILOX_KEYS[i].wrapping_mul(round)) };
                let words = [word, product.map(|[_, high]| high)].into_iter().flatten();
                words.fold(key, |mixed, word| k.xor(mixed, word))
            };
        let (of_a, of_c) = (product(k, a, PHILOX_FACTORS[0]), product(k, c, PHILOX_FACTORS[1]));
        a = (round != 8).then(|| mixed(k, 0, b, of_c));
        c = (round != 9).then(|| mixed(k, 1, d, of_a));
        [b, d] = [of_c, of_a].map(|product| product.map(|[low, _]| low));
    }
    k.pack64(a.unwrap_or(position), b.unwrap_or(position)).cast::<U64>()
}

/// Counts the block, all of whose threads have left what others are to see. Only the last block of its row goes on; it
/// sees all of that, and the counter at zero.
pub(super) fn arrive(k: &mut KernelBuilder, thread: Reg<U32>, counter: Addr<U64>, blocks: u32) {
    k.comment("the last block to get here finds the others counted, and leaves the counter at zero");
    k.barrier();
    let found = k.named_var::<U32>("found", 0);
    let counts = k.eq(thread, 0);
    k.if_(counts, |k| {
        // Releases what the block has stored before its barrier, and acquires what those before it have.
        let order = Atomic::GLOBAL.order(AtomOrder::AcqRel, Scope::Gpu);
        let old = k.atom::<U32>(order, AtomOp::Inc, counter, blocks - 1);
        k.set(found, old);
    });
    let is_last = k.eq(found, blocks - 1);
    let is_last = k.and_pred(counts, is_last);
    let is_last = k.bar_any(0, is_last);
    k.ret_if(!is_last);
}
