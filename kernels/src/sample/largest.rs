//! The first of the three kernels that sample: the penalty, and the most likely token.

use ptx_builder::{AtomOp, Atomic, B32, F32, KernelBuilder, Module, Reg, Target, U32, U64};
use tensor_formats::ElementType;

use super::row::{self, History, LANES, RowParams, Rows, SLICE, THREADS};
use super::{SamplingParams, params};
use crate::argmax::{Best, SHARED_BYTES};
use crate::support::{f32_param, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param, emit};

const FAMILY: &str = "sample_largest";

/// For each row `r`: penalises the logits of recent tokens in `x[r]`, each once however often it came; then `largest[r]`
/// becomes the first token of the largest logit and the bits of that logit, where a zero has no sign. A NaN is never the
/// largest. A row with nothing above -inf gives `u32::MAX` and a NaN.
///
/// Recent are the tokens at the last positions of the row's sequence up to `positions[r]`, as many as the row's
/// [`SamplingParams`] say, and none before the first position that they say.
///
/// Parameters: `x` `[rows, n]` f32, `history` `[sequences, positions]` u32, `params` `[rows, 12]` u32
/// ([`SamplingParams::words`]), `positions` and `sequences` `[rows]` u32, `largest` `[rows, 2]` u32, `best`
/// ([`Access::Counter`]). Every sequence is one of the history's, and no first position is beyond `positions[r] + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleLargest {
    rows: Rows,
    history: History,
}

impl SampleLargest {
    /// The kernel for `rows` rows of `n` logits, and a history of `sequences` sequences of `positions` tokens.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for more logits than 2^18, or a history of 2^32 tokens.
    pub fn new(rows: usize, n: usize, [sequences, positions]: [usize; 2]) -> Result<Self, KernelError> {
        Ok(Self { rows: Rows::new(FAMILY, rows, n)?, history: History::new(FAMILY, sequences, positions)? })
    }

    /// What a row of `x` becomes, given the recent tokens, and the row of `largest`.
    pub fn reference(params: &SamplingParams, x: &[f32], recent: &[u32]) -> (Vec<f32>, [u32; 2]) {
        let mut penalised = Vec::new();
        params.penalise(x, recent.iter().copied(), &mut penalised);
        let largest = match params::largest(&penalised) {
            Some((token, logit)) => [token, (logit + 0.0).to_bits()],
            None => [u32::MAX; 2],
        };
        (penalised, largest)
    }

    fn body(
        &self,
        k: &mut KernelBuilder,
        [x, history, params, positions, sequences, largest, best]: [Reg<U64>; 7],
    ) {
        let (thread, slice) = (k.tid_x(), k.ctaid_y());
        let token = row::first_token(k, thread, slice);
        let at = self.rows.logit(k, x, token);
        let logits = self.rows.logits(k, at, token).map(|logit| k.var::<F32>(logit));
        let recent = self.recent(k, (thread, slice), [history, params, positions, sequences]);
        k.comment("the penalty");
        let params = RowParams::at(k, params);
        let penalty = k.ld_global::<F32>(params + 12);
        let any = k.ne(recent, 0);
        k.if_(any, |k| {
            for (lane, var) in (0..LANES).zip(logits) {
                let logit = k.get(var);
                let [divided, multiplied] = [k.div(logit, penalty), k.mul(logit, penalty)];
                let positive = k.gt(logit, 0.0);
                let penalised = k.selp(positive, divided, multiplied);
                let is_recent = k.and(recent, 1 << lane);
                let is_recent = k.ne(is_recent, 0);
                let token = k.add(token, lane);
                let inside = k.lt(token, self.rows.n);
                let here = k.and_pred(is_recent, inside);
                k.guarded(here, |k| k.st_global::<F32>(at + 4 * lane as i32, penalised));
                k.update(var, |k, logit| k.selp(here, penalised, logit));
            }
        });
        let value = k.named_var::<F32>("best", f32::NEG_INFINITY);
        let index = k.named_var::<U32>("best_index", u32::MAX);
        for (lane, logit) in (0..LANES).zip(logits) {
            let better = k.gt(logit, value);
            let here = k.add(token, lane);
            k.update(value, |k, best| k.selp(better, logit.live(), best));
            k.update(index, |k, best| k.selp(better, here, best));
        }
        let (value, index) = (k.get(value), k.get(index));
        let of_block = Best::new(k, value, index).of_block(k, thread, THREADS);
        let first = k.eq(thread, 0);
        k.ret_if(!first);
        let row = k.ctaid_x();
        let best = k.ptr_index(best, row, SHARED_BYTES);
        let of_row = of_block.of_blocks(k, best, self.rows.blocks());
        // Back from the order of values; nothing at all becomes a NaN.
        let negative = k.not(of_row.key);
        let positive = k.xor(of_row.key, 1 << 31);
        let is_positive = k.ge(of_row.key, 1 << 31);
        let bits = k.selp(is_positive, positive, negative);
        let largest = k.ptr_index(largest, row, 8);
        k.st_global_v2::<U32>(largest, [of_row.index, bits]);
    }

    /// Which of the thread's tokens are recent, in the low bits.
    fn recent(
        &self,
        k: &mut KernelBuilder,
        (thread, slice): (Reg<U32>, Reg<U32>),
        [history, params, positions, sequences]: [Reg<U64>; 4],
    ) -> Reg<U32> {
        k.comment("a bit for each token of the slice that is recent");
        let bits = k.shared::<B32>("recent", SLICE / 32);
        let params = RowParams::at(k, params);
        let [most, since] = k.ld_global_v2::<U32>(params + 16);
        let position = row::word_of_row(k, positions);
        let end = k.add(position, 1);
        let end = k.min(end, self.history.positions);
        let there = k.sub(end, since);
        let count = k.min(there, most);
        let history = self.history.of_row(k, history, sequences);
        let clears = k.lt(thread, SLICE / 32);
        let own = k.shared_index(bits, thread);
        k.guarded(clears, |k| k.st_shared::<B32>(own, 0u32));
        k.barrier();
        let start = k.mul(slice, SLICE);
        let from = k.sub(end, count);
        k.for_range(thread, count, THREADS, |k, i| {
            let at = k.add(from, i);
            let at = k.ptr_index(history, at, 4);
            let token = k.ld_global::<U32>(at);
            let place = k.sub(token, start);
            let inside = k.lt(place, SLICE);
            let word = k.shr(place, 5);
            let bit = k.and(place, 31);
            let one = k.imm::<B32>(1u32);
            let bit = k.shl(one, bit);
            let word = k.shared_index(bits, word);
            k.guarded(inside, |k| k.red::<B32>(Atomic::SHARED, AtomOp::Or, word, bit));
        });
        k.barrier();
        let word = k.shr(thread, 3);
        let word = k.shared_index(bits, word);
        let word = k.ld_shared::<B32>(word).cast::<U32>();
        let nibble = k.and(thread, 7);
        let by = k.mul(nibble, LANES);
        let bits = k.shr(word, by);
        k.and(bits, (1 << LANES) - 1)
    }
}

impl Kernel for SampleLargest {
    fn name(&self) -> String {
        let (Rows { rows, n }, History { sequences, positions }) = (self.rows, self.history);
        format!("sample_largest_n{n}_s{sequences}_m{positions}_b{rows}")
    }

    fn params(&self) -> Vec<Param> {
        let rows = u64::from(self.rows.rows);
        let x = f32_param("x", Access::ReadWrite, self.rows.elements(), self.rows.vector() * 4);
        let element = ElementType::U32;
        let bytes = rows * u64::from(SHARED_BYTES);
        vec![
            x,
            u32_param("history", self.history.elements()),
            Param { align: 16, ..u32_param("params", rows * SamplingParams::WORDS as u64) },
            u32_param("positions", rows),
            u32_param("sequences", rows),
            Param { access: Access::Write, align: 8, ..u32_param("largest", rows * 2) },
            Param { name: "best", access: Access::Counter, element, bytes, align: 8 },
        ]
    }

    fn geometry(&self) -> LaunchGeometry {
        self.rows.geometry()
    }

    fn cost(&self, _context: u64) -> Cost {
        let rows = u64::from(self.rows.rows);
        let elements = self.rows.elements();
        Cost { bytes_read: 4 * elements + 56 * rows, bytes_written: 8 * rows, operations: elements }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, pointers| self.body(k, pointers))
    }
}
