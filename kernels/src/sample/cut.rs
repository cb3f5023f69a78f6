//! The second of the three kernels that sample: where top-k and top-p cut the order of likelihoods, up to a bin.

use ptx_builder::{AtomOp, Atomic, F32, KernelBuilder, Module, Reg, Target, U32, U64};
use tensor_formats::ElementType;

use super::SamplingParams;
use super::bins::{Bins, EACH, Found, Scan, Tally, total};
use super::definition::{BINS, bin, share, weight};
use super::row::{self, RowParams, Rows, Worth, arrive};
use crate::support::{f32_param, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param, emit};

const FAMILY: &str = "sample_cut";

/// For each row `r`: the bins ([`bin`]) in which top-k and top-p of its [`SamplingParams`] cut, among the
/// tokens that weigh enough.
///
/// A row of `cut` is, in words: the bin of the last token that top-k leaves; how many tokens of that bin come before it;
/// the first and the last bin that the last token of top-p can be in, whichever tokens of the bin top-k leaves; then, as
/// two words each, what all tokens before the first of these bins weigh, and all before the second. If top-k
/// leaves all tokens, the first bin is 1024, and everything is before it; without top-p the second and third are as the
/// first.
///
/// Parameters: `x` `[rows, n]` f32, `largest` `[rows, 2]` u32 ([`SampleLargest`](super::SampleLargest)), `params`
/// `[rows, 12]` u32, `cut` `[rows, 8]` u32, `bins` ([`Access::Counter`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleCut {
    rows: Rows,
}

/// Bytes of what the blocks of a row share: counts, sums, and how many blocks have added theirs.
const SHARED_BYTES: u32 = BINS * 12 + 16;
/// Where the sums begin.
const SUMS: i32 = (BINS * 4) as i32;
const ARRIVALS: i32 = (BINS * 12) as i32;

/// Words of a row of `cut`.
pub(super) const CUT_WORDS: u32 = 8;

impl SampleCut {
    /// The kernel for `rows` rows of `n` logits.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for more logits than 2^18.
    pub fn new(rows: usize, n: usize) -> Result<Self, KernelError> {
        Ok(Self { rows: Rows::new(FAMILY, rows, n)? })
    }

    /// The row of `cut` for logits `x` whose largest is `largest`.
    pub fn reference(params: &SamplingParams, x: &[f32], largest: f32) -> [u32; CUT_WORDS as usize] {
        let mut bins = vec![(0u32, 0u64); BINS as usize];
        for weight in x.iter().map(|&logit| weight(logit, largest, params.scale)) {
            if weight >= params.least {
                let bin = &mut bins[bin(weight) as usize];
                *bin = (bin.0 + 1, bin.1 + u64::from(weight));
            }
        }
        // What there is before each bin, and at the end.
        let mut before = vec![(0u32, 0u64)];
        for (count, sum) in &bins {
            let last = before[before.len() - 1];
            before.push((last.0 + count, last.1 + sum));
        }
        let total = before[BINS as usize];
        let limit =
            before[1..].iter().position(|&(count, _)| params.top_k < total.0 && count >= params.top_k);
        let limit = limit.unwrap_or(BINS as usize);
        let above = before[limit];
        let until = before[(limit + 1).min(BINS as usize)];
        let rank = if limit < BINS as usize { params.top_k - 1 - above.0 } else { 0 };
        let (mut first, mut last) = (limit, limit);
        if params.top_p < u64::MAX {
            [first, last] = [above.1, until.1].map(|total| {
                let wanted = share(total, params.top_p);
                before[1..].iter().position(|&(_, sum)| sum > wanted).unwrap_or(BINS as usize)
            });
        }
        let halves = |sum: u64| [sum as u32, (sum >> 32) as u32];
        let ([a, b], [c, d]) = (halves(above.1), halves(before[first].1));
        [limit as u32, rank, first as u32, last as u32, a, b, c, d]
    }

    fn body(&self, k: &mut KernelBuilder, [x, largest, params, cut, shared]: [Reg<U64>; 5]) {
        let (thread, slice, row) = (k.tid_x(), k.ctaid_y(), k.ctaid_x());
        let bins = Bins::new(k, thread);
        bins.clear(k);
        let params = RowParams::load(k, params);
        let largest = k.ptr_index(largest, row, 8);
        let largest = k.ld_global::<F32>(largest + 4);
        let token = row::first_token(k, thread, slice);
        let at = self.rows.logit(k, x, token);
        for logit in self.rows.logits(k, at, token) {
            let worth = Worth::new(k, logit, largest, &params);
            let counts = worth.counts(k, &params);
            k.if_(counts, |k| bins.add(k, worth.bin, worth.weight));
        }
        k.barrier();
        let shared = k.ptr_index(shared, row, SHARED_BYTES);
        let first = k.mul(thread, EACH);
        let (counts, sums) = (k.ptr_index(shared, first, 4), k.ptr_index(shared, first, 8));
        for (i, bin) in (0..).zip(bins.own(k)) {
            let some = k.ne(bin.count, 0);
            k.guarded(some, |k| {
                k.red::<U32>(Atomic::GLOBAL, AtomOp::Add, counts + 4 * i, bin.count);
                k.red::<U64>(Atomic::GLOBAL, AtomOp::Add, sums + (SUMS + 8 * i), bin.sum);
            });
        }
        arrive(k, thread, shared + ARRIVALS, self.rows.blocks());
        k.comment("the bins of the whole row; they are left at zero");
        let of_row = k.ld_global_v4::<U32>(counts);
        let [a, b] = k.ld_global_v2::<U64>(sums + SUMS);
        let [c, d] = k.ld_global_v2::<U64>(sums + (SUMS + 16));
        k.st_global_v4::<U32>(counts, [0u32; 4]);
        k.st_global_v2::<U64>(sums + SUMS, [0u64; 2]);
        k.st_global_v2::<U64>(sums + (SUMS + 16), [0u64; 2]);
        let mut sums = [a, b, c, d].into_iter();
        let own = of_row.map(|count| Tally { count, sum: sums.next().unwrap_or(a) });
        let scan = Scan::new(k, thread);
        let all = total(k, &own);
        let running = scan.run(k, all);
        let (all, before) = (running.total(k), running.before(k));

        k.comment("top-k");
        let limited = k.gt(all.count, params.top_k);
        let last = k.sub(params.top_k, 1);
        let target = k.widen(last);
        let target = k.selp(limited, target, u64::MAX);
        let leave = |i: usize, before: Tally| ([before.count], [own[i].sum, before.sum]);
        let Found { bin: limit, counts: [earlier], sums: [inside, above] } =
            scan.search(k, &own, before, target, leave);
        let rank = k.sub(last, earlier);
        let rank = k.selp(limited, rank, 0u32);
        let until = k.add(above, inside);
        let above = k.selp(limited, above, all.sum);
        let until = k.selp(limited, until, all.sum);

        k.comment("top-p, if the tokens of the last bin weigh least or most");
        let cuts = k.ne(params.top_p, u64::MAX);
        let wanted = |k: &mut KernelBuilder, total| {
            let wanted = params.wanted(k, total);
            k.selp(cuts, wanted, u64::MAX)
        };
        let [low, high] = [wanted(k, above), wanted(k, until)];
        let sums = own.map(|tally| tally.sum);
        k.barrier();
        let first = scan.search(k, &sums, before.sum, low, |_, before| ([], [before]));
        k.barrier();
        let last = scan.search(k, &sums, before.sum, high, |_, _| ([], []));
        let none = k.eq(first.bin, BINS);
        let before = k.selp(none, all.sum, first.sums[0]);
        let before = k.selp(cuts, before, above);
        let [first, last] = [first.bin, last.bin].map(|bin| k.selp(cuts, bin, limit));
        let stores = k.eq(thread, 0);
        let cut = k.ptr_index(cut, row, 4 * CUT_WORDS);
        let [above, before] = [above, before].map(|sum| k.unpack64::<U32>(sum));
        k.guarded(stores, |k| {
            k.st_global_v4::<U32>(cut, [limit, rank, first, last]);
            k.st_global_v4::<U32>(cut + 16, [above[0], above[1], before[0], before[1]]);
        });
    }
}

impl Kernel for SampleCut {
    fn name(&self) -> String {
        format!("sample_cut_n{}_b{}", self.rows.n, self.rows.rows)
    }

    fn params(&self) -> Vec<Param> {
        let rows = u64::from(self.rows.rows);
        let element = ElementType::U32;
        let bytes = rows * u64::from(SHARED_BYTES);
        vec![
            f32_param("x", Access::Read, self.rows.elements(), self.rows.vector() * 4),
            Param { align: 8, ..u32_param("largest", rows * 2) },
            Param { align: 16, ..u32_param("params", rows * SamplingParams::WORDS as u64) },
            Param { access: Access::Write, align: 16, ..u32_param("cut", rows * u64::from(CUT_WORDS)) },
            Param { name: "bins", access: Access::Counter, element, bytes, align: 16 },
        ]
    }

    fn geometry(&self) -> LaunchGeometry {
        self.rows.geometry()
    }

    fn cost(&self, _context: u64) -> Cost {
        let (rows, elements) = (u64::from(self.rows.rows), self.rows.elements());
        Cost { bytes_read: 4 * elements + 44 * rows, bytes_written: 32 * rows, operations: 16 * elements }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, pointers| self.body(k, pointers))
    }
}
