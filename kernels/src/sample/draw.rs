//! The third of the three kernels that sample: the exact cut, and the draw.

use ptx_builder::{AtomOp, Atomic, B64, F32, KernelBuilder, Module, Reg, Target, U32, U64, Var};
use tensor_formats::ElementType;

use super::SamplingParams;
use super::bins::{Amount, Bins, Found, Scan, Tally, total};
use super::cut::CUT_WORDS;
use super::definition::BINS;
use super::row::{
    self, History, LANES, RowParams, Rows, SLICE, THREADS, Worth, arrive, logit_of, rank, token_of,
};
use crate::support::{counter_param, f32_param, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param, emit};

const FAMILY: &str = "sample_draw";

/// For each row `r`: `tokens[r]` becomes the token that is chosen at `positions[r]` as [`SamplingParams::choose`] does
/// it, and so does the history of the row's sequence at the next position, if there is one.
///
/// Parameters: `x` `[rows, n]` f32, `largest` `[rows, 2]` u32 ([`SampleLargest`](super::SampleLargest)), `params`
/// `[rows, 12]` u32, `cut` `[rows, 8]` u32 ([`SampleCut`](super::SampleCut)), `positions` and `sequences` `[rows]` u32,
/// `tokens` `[rows]` u32, `history` `[sequences, positions]` u32, `counts` ([`Access::Counter`]), `sums` and `ranks`
/// ([`Access::Scratch`]). Every sequence is one of the history's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleDraw {
    rows: Rows,
    history: History,
}

/// Bits of a digit of a rank.
const DIGIT: u32 = BINS.ilog2();
/// The first bit of the first digit of a rank: five digits hold a key and a token.
const FIRST_DIGIT: u32 = 40;

const _: () = assert!(FIRST_DIGIT + DIGIT == 32 + super::definition::TOKEN_BITS);

/// A row of the output of [`SampleCut`](super::SampleCut).
#[derive(Debug, Clone, Copy)]
struct Cut {
    limit: Reg<U32>,
    place: Reg<U32>,
    first: Reg<U32>,
    last: Reg<U32>,
    above: Reg<U64>,
    before: Reg<U64>,
}

/// What of the listed tokens runs up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Count,
    Sum,
}

/// Ranks of the tokens of a row that may or may not take part.
#[derive(Debug, Clone, Copy)]
struct Listed {
    ranks: Reg<U64>,
    count: Reg<U32>,
}

/// What the last block of a row works with.
struct Last<'a> {
    thread: Reg<U32>,
    params: &'a RowParams,
    largest: Reg<F32>,
    listed: Listed,
    bins: Bins,
    scan: Scan,
}

impl SampleDraw {
    /// The kernel for `rows` rows of `n` logits, and a history of `sequences` sequences of `positions` tokens.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for more logits than 2^18, or a history of 2^32 tokens.
    pub fn new(rows: usize, n: usize, [sequences, positions]: [usize; 2]) -> Result<Self, KernelError> {
        Ok(Self { rows: Rows::new(FAMILY, rows, n)?, history: History::new(FAMILY, sequences, positions)? })
    }

    fn body(&self, k: &mut KernelBuilder, pointers: [Reg<U64>; 11]) {
        let [x, largest, params, cut, positions, sequences, tokens, history, counts, sums, ranks] = pointers;
        let (thread, slice, row) = (k.tid_x(), k.ctaid_y(), k.ctaid_x());
        let params = RowParams::load(k, params);
        let largest = k.ptr_index(largest, row, 8);
        let [most_likely, largest] = k.ld_global_v2::<U32>(largest);
        let largest = k.bits_to_f32(largest);
        let cut = Cut::load(k, cut);
        let counts = k.ptr_index(counts, row, 8);
        let sums = k.ptr_index(sums, row, 8 * self.rows.blocks());
        let ranks = k.ptr_index(ranks, row, 8 * self.rows.n);
        let scan = Scan::new(k, thread);
        self.sort_out(k, (x, thread, slice), (&params, largest), (&cut, &scan), [counts, sums, ranks]);
        arrive(k, thread, counts + 4, self.rows.blocks());

        let count = k.ld_global::<U32>(counts);
        let bins = Bins::new(k, thread);
        let listed = Listed { ranks, count };
        let last = Last { thread, params: &params, largest, listed, bins, scan };
        let until = last.exact_cut(k, &cut);
        k.comment("the slice that the draw falls into");
        bins.clear_sums(k);
        last.for_listed(k, |k, rank, worth| {
            let kept = k.le(rank, until);
            let early = k.le(worth.bin, cut.last);
            let kept = k.and_pred(kept, early);
            k.if_(kept, |k| {
                let token = token_of(k, rank);
                let slice = k.shr(token, SLICE.ilog2());
                bins.add_weight(k, slice, worth.weight);
            });
        });
        k.barrier();
        let of_list = bins.sum_of_thread(k);
        let at = k.ptr_index(sums, thread, 8);
        let there = k.lt(thread, self.rows.blocks());
        let sure = k.var::<U64>(0u64);
        k.if_(there, |k| {
            let sum = k.ld_global::<U64>(at);
            k.set(sure, sum);
        });
        let own = k.add(of_list, sure.live());
        let running = scan.run(k, own);
        let position = row::word_of_row(k, positions);
        let random = row::random_bits(k, params.seed, position);
        let all = running.total(k);
        let drawn = k.mul_hi(all, random);
        let before = running.before(k);
        let Found { bin: slice, sums: [before], .. } =
            scan.search(k, &[own], before, drawn, |_, before| ([], [before]));

        k.comment("the token that it falls on; if nothing weighs anything, no slice has one");
        let first = row::first_token(k, thread, slice);
        let at = self.rows.logit(k, x, first);
        let logits = self.rows.logits(k, at, first);
        let own: Vec<Reg<U64>> = (0..LANES)
            .zip(logits)
            .map(|(lane, logit)| {
                let worth = Worth::new(k, logit, largest, &params);
                let token = if lane == 0 { first } else { k.add(first, lane) };
                let rank = rank(k, logit, token);
                let kept = k.le(rank, until);
                let counts = worth.counts(k, &params);
                let kept = k.and_pred(kept, counts);
                let early = k.le(worth.bin, cut.last);
                let kept = k.and_pred(kept, early);
                let weight = k.selp(kept, worth.weight, 0);
                k.widen(weight)
            })
            .collect();
        let all = total(k, &own);
        let of_threads = scan.run(k, all).before(k);
        let rest = k.sub(drawn, before);
        let found = scan.find(k, &own, of_threads, rest, |_, _| ([], []));
        let chosen = k.mad(slice, SLICE, found.bin);
        let none = k.eq(slice, BINS);
        let chosen = k.selp(none, most_likely, chosen);

        let stores = k.eq(thread, 0);
        k.ret_if(!stores);
        k.st_global::<U32>(counts, 0);
        let token = k.ptr_index(tokens, row, 4);
        k.st_global::<U32>(token, chosen);
        let next = k.add(position, 1);
        let history = self.history.of_row(k, history, sequences);
        let at = k.ptr_index(history, next, 4);
        let there = k.lt(next, self.history.positions);
        k.guarded(there, |k| k.st_global::<U32>(at, chosen));
    }

    /// What of the block's slice takes part for sure goes into its sum; what may take part, into the list.
    fn sort_out(
        &self,
        k: &mut KernelBuilder,
        (x, thread, slice): (Reg<U64>, Reg<U32>, Reg<U32>),
        (params, largest): (&RowParams, Reg<F32>),
        (cut, scan): (&Cut, &Scan),
        [counts, sums, ranks]: [Reg<U64>; 3],
    ) {
        let first = row::first_token(k, thread, slice);
        let at = self.rows.logit(k, x, first);
        let logits = self.rows.logits(k, at, first);
        let mut own = Tally::none(k);
        let mut uncertain = Vec::new();
        for (lane, logit) in (0..LANES).zip(logits) {
            let worth = Worth::new(k, logit, largest, params);
            let sure = k.lt(worth.bin, cut.first);
            let in_reach = k.le(worth.bin, cut.last);
            let at_limit = k.eq(worth.bin, cut.limit);
            let open = k.or_pred(in_reach, at_limit);
            let open = k.and_pred(open, !sure);
            let counts = worth.counts(k, params);
            let open = k.and_pred(open, counts);
            let sure = k.and_pred(sure, counts);
            let weight = k.selp(sure, worth.weight, 0);
            let one = Tally { count: k.selp(open, 1, 0), sum: k.widen(weight) };
            let token = if lane == 0 { first } else { k.add(first, lane) };
            uncertain.push((open, own.count, rank(k, logit, token)));
            own = own.plus(k, one);
        }
        let running = scan.run(k, own);
        let all = running.total(k);
        let base = k.shared::<U32>("base", 1);
        let is_first = k.eq(thread, 0);
        let sum = k.ptr_index(sums, slice, 8);
        k.if_(is_first, |k| {
            k.st_global::<U64>(sum, all.sum);
            let from = k.atom::<U32>(Atomic::GLOBAL, AtomOp::Add, counts, all.count);
            k.st_shared::<U32>(base, from);
        });
        k.barrier();
        let base = k.ld_shared::<U32>(base);
        let before = running.map(|tally| tally.count).before(k);
        let base = k.add(base, before);
        for (open, place, rank) in uncertain {
            let place = k.add(base, place);
            let at = k.ptr_index(ranks, place, 8);
            k.guarded(open, |k| k.st_global::<B64>(at, rank.cast::<B64>()));
        }
    }
}

impl Cut {
    fn load(k: &mut KernelBuilder, cut: Reg<U64>) -> Self {
        let row = k.ctaid_x();
        let at = k.ptr_index(cut, row, 4 * CUT_WORDS);
        let [limit, place, first, last] = k.ld_global_v4::<U32>(at);
        let [above, before] = k.ld_global_v2::<U64>(at + 16);
        Self { limit, place, first, last, above, before }
    }
}

impl Last<'_> {
    /// Calls `body` in a loop over the thread's share of the list, with rank and worth of each.
    fn for_listed(&self, k: &mut KernelBuilder, body: impl FnOnce(&mut KernelBuilder, Reg<U64>, Worth)) {
        k.for_range(self.thread, self.listed.count, THREADS, |k, i| {
            let at = k.ptr_index(self.listed.ranks, i, 8);
            let rank = k.ld_global::<U64>(at);
            let logit = logit_of(k, rank);
            let worth = Worth::new(k, logit, self.largest, self.params);
            body(k, rank, worth);
        });
    }

    /// The rank after which no token of the bins that are left takes part.
    fn exact_cut(&self, k: &mut KernelBuilder, cut: &Cut) -> Reg<U64> {
        let until = k.named_var::<U64>("until", u64::MAX);
        let total = k.named_var::<U64>("total", cut.above);
        let limited = k.ne(cut.limit, BINS);
        k.if_(limited, |k| {
            k.comment("the last token that top-k leaves, and what those up to it weigh");
            let place = k.widen(cut.place);
            let (rank, sum) = self.select(k, [cut.limit; 2], until, (Measure::Count, place));
            k.set(until, rank);
            k.update(total, |k, above| k.add(above, sum));
        });
        let cuts = k.ne(self.params.top_p, u64::MAX);
        let some = k.ne(cut.first, BINS);
        let cuts = k.and_pred(cuts, some);
        k.if_(cuts, |k| {
            k.comment("the last token of top-p");
            let wanted = self.params.wanted(k, total.live());
            let target = k.sub(wanted, cut.before);
            let (rank, _) = self.select(k, [cut.first, cut.last], until, (Measure::Sum, target));
            k.update(until, |k, until| k.min(until, rank));
        });
        k.get(until)
    }

    /// Of the listed tokens in the bins from `first` to `last`, up to rank `until`: a rank from that of the one on with
    /// which the count or sum of those so far is more than `target`, and before that of the next; and what they weigh.
    fn select(
        &self,
        k: &mut KernelBuilder,
        [first, last]: [Reg<U32>; 2],
        until: Var<U64>,
        (measure, target): (Measure, Reg<U64>),
    ) -> (Reg<U64>, Reg<U64>) {
        let upper = k.get(until);
        let target = k.var::<U64>(target);
        let (prefix, weight) = (k.var::<U64>(0u64), k.var::<U64>(0u64));
        let shift = k.var::<U32>(FIRST_DIGIT);
        k.do_while(|k| {
            self.bins.clear(k);
            self.for_listed(k, |k, rank, worth| {
                let high = k.add(shift, DIGIT);
                let high = k.shr(rank, high);
                let here = k.eq(high, prefix);
                let enough = k.ge(worth.bin, first);
                let here = k.and_pred(here, enough);
                let early = k.le(worth.bin, last);
                let here = k.and_pred(here, early);
                let inside = k.le(rank, upper);
                let here = k.and_pred(here, inside);
                k.if_(here, |k| {
                    let digit = k.shr(rank, shift);
                    let digit = k.cvt::<U32>(digit);
                    let digit = k.and(digit, BINS - 1);
                    self.bins.add(k, digit, worth.weight);
                });
            });
            k.barrier();
            let own = self.bins.own(k);
            let (digit, count, inside, before, passed) = match measure {
                Measure::Count => {
                    let all = total(k, &own);
                    let running = self.scan.run(k, all).before(k);
                    let leave =
                        |i: usize, before: Tally| ([own[i].count, before.count], [own[i].sum, before.sum]);
                    let found = self.scan.find(k, &own, running, target.live(), leave);
                    let ([count, passed], [inside, before]) = (found.counts, found.sums);
                    (found.bin, count, inside, before, k.widen(passed))
                }
                Measure::Sum => {
                    let sums = own.map(|tally| tally.sum);
                    let all = total(k, &sums);
                    let running = self.scan.run(k, all).before(k);
                    let leave = |i: usize, before| ([own[i].count], [sums[i], before]);
                    let found = self.scan.find(k, &sums, running, target.live(), leave);
                    let ([count], [inside, before]) = (found.counts, found.sums);
                    (found.bin, count, inside, before, before)
                }
            };
            k.update(target, |k, target| k.sub(target, passed));
            k.update(weight, |k, weight| k.add(weight, before));
            let digit = k.widen(digit);
            k.update(prefix, |k, prefix| {
                let prefix = k.shl(prefix, DIGIT);
                k.or(prefix, digit)
            });
            let several = k.gt(count, 1);
            let one = k.selp(several, 0u64, inside);
            k.update(weight, |k, weight| k.add(weight, one));
            let more = k.ne(shift, 0);
            let goes_on = k.and_pred(several, more);
            let next = k.sub(shift, DIGIT);
            k.update(shift, |k, shift| k.selp(goes_on, next, shift));
            goes_on
        });
        // Only one token has this prefix.
        let next = k.add(prefix, 1u64);
        let next = k.shl(next, shift);
        (k.sub(next, 1u64), k.get(weight))
    }
}

impl Kernel for SampleDraw {
    fn name(&self) -> String {
        let (Rows { rows, n }, History { sequences, positions }) = (self.rows, self.history);
        format!("sample_draw_n{n}_s{sequences}_m{positions}_b{rows}")
    }

    fn params(&self) -> Vec<Param> {
        let rows = u64::from(self.rows.rows);
        let scratch = |name, words: u64| Param {
            name,
            access: Access::Scratch,
            element: ElementType::U32,
            bytes: words * 8,
            align: 8,
        };
        vec![
            f32_param("x", Access::Read, self.rows.elements(), self.rows.vector() * 4),
            Param { align: 8, ..u32_param("largest", rows * 2) },
            Param { align: 16, ..u32_param("params", rows * SamplingParams::WORDS as u64) },
            Param { align: 16, ..u32_param("cut", rows * u64::from(CUT_WORDS)) },
            u32_param("positions", rows),
            u32_param("sequences", rows),
            Param { access: Access::Write, ..u32_param("tokens", rows) },
            Param { access: Access::ReadWrite, ..u32_param("history", self.history.elements()) },
            Param { align: 8, ..counter_param("counts", rows * 2) },
            scratch("sums", rows * u64::from(self.rows.blocks())),
            scratch("ranks", self.rows.elements()),
        ]
    }

    fn geometry(&self) -> LaunchGeometry {
        self.rows.geometry()
    }

    fn cost(&self, _context: u64) -> Cost {
        let (rows, elements) = (u64::from(self.rows.rows), self.rows.elements());
        Cost { bytes_read: 4 * elements + 96 * rows, bytes_written: 8 * rows, operations: 16 * elements }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, pointers| self.body(k, pointers))
    }
}
