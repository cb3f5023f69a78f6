//! What the warps of a block know of its heads becomes four features of each thread.

use ptx_builder::{ArrayRef, F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::Attention;
use super::plan::Plan;

/// Bytes of a thread's features.
const ALIGN: u32 = 16;

/// The four features that a thread writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlet {
    /// The features are number `4 * place` and the next three of the block's heads, one after the other.
    pub place: Reg<U32>,
    /// The head among those of the block.
    pub head: Reg<U32>,
    /// Whether no other thread has the same features: threads beyond the features do the last ones again.
    pub stores: Pred,
}

impl Outlet {
    /// That of `thread`: plans have at least as many threads as there are groups of four features.
    pub fn new(k: &mut KernelBuilder, kernel: &Attention, thread: Reg<U32>) -> Self {
        let (heads, head_dim) = (kernel.plan.heads(), kernel.cache.head_dim);
        let outputs = heads * head_dim / 4;
        let place = if outputs < kernel.plan.threads() { k.min(thread, outputs - 1) } else { thread };
        let stores = k.lt(thread, outputs);
        let head = if heads == 1 { k.imm::<U32>(0) } else { k.div(place, head_dim / 4) };
        Self { place, head, stores }
    }

    /// Which four features of the head these are.
    fn within(&self, k: &mut KernelBuilder, kernel: &Attention) -> Reg<U32> {
        if kernel.plan.heads() == 1 {
            return self.place;
        }
        let before = k.mul(self.head, kernel.cache.head_dim / 4);
        k.sub(self.place, before)
    }

    /// Whether the thread is the first of its head.
    pub fn leads(&self, k: &mut KernelBuilder, kernel: &Attention) -> Pred {
        let within = self.within(k, kernel);
        let leads = k.eq(within, 0);
        k.and_pred(leads, self.stores)
    }

    /// Where the features are in those of a warp, in groups of four.
    fn group(&self, k: &mut KernelBuilder, kernel: &Attention) -> Reg<U32> {
        let within = self.within(k, kernel);
        let within = match kernel.plan {
            Plan::Lanes(_) => within,
            Plan::Matrix(plan) => plan.group_of(k, within),
        };
        k.mad(self.head, kernel.plan.head_stride(kernel.cache.head_dim) / 4, within)
    }
}

/// What is known of the features of an [`Outlet`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    /// The largest score, in units of log 2.
    pub max: Reg<F32>,
    /// The sum of `2^(score - max)`, or of the same multiple of that as the values.
    pub sum: Reg<F32>,
    /// The features of the values, weighted likewise.
    pub values: [Reg<F32>; 4],
}

impl Features {
    /// The sums of all warps, brought to one maximum.
    pub fn of_block(k: &mut KernelBuilder, kernel: &Attention, results: Results, outlet: &Outlet) -> Self {
        k.comment("combine the warps");
        let (heads, warps) = (kernel.plan.heads(), kernel.plan.warps());
        let max_at = k.shared_index(results.max, outlet.head);
        let sum_at = k.shared_index(results.sum, outlet.head);
        let (acc, warp_bytes) = results.features(k, kernel);
        let group = outlet.group(k, kernel);
        let acc_at = k.mad(group, 16, acc);
        let warp_entries = |warp: u32| (warp * heads * 4) as i32;

        let maxima: Vec<_> = (0..warps).map(|warp| k.ld_shared::<F32>(max_at + warp_entries(warp))).collect();
        let max = maxima[1..].iter().fold(maxima[0], |max, &other| k.max(max, other));
        let sum = k.var::<F32>(0.0);
        let values = [(); 4].map(|()| k.var::<F32>(0.0));
        for (warp, &part) in (0..).zip(&maxima) {
            let below = k.sub(part, max);
            let factor = k.ex2_approx(below);
            let part = k.ld_shared::<F32>(sum_at + warp_entries(warp));
            k.update(sum, |k, sum| k.fma(part, factor, sum));
            let part = k.ld_shared_v4::<F32>(acc_at + (warp * warp_bytes) as i32);
            for (total, v) in values.into_iter().zip(part) {
                k.update(total, |k, total| k.fma(v, factor, total));
            }
        }
        Self { max, sum: k.get(sum), values: values.map(|v| k.get(v)) }
    }

    /// Stores the features as group `place` of those from `y` on.
    pub fn store(&self, k: &mut KernelBuilder, (place, stores): (Reg<U32>, Option<Pred>), y: Reg<U64>) {
        let norm = k.rcp(self.sum);
        let row = self.values.map(|v| k.mul(v, norm));
        let at = k.ptr_index(y, place, 16);
        match stores {
            Some(stores) => k.guarded(stores, |k| k.st_global_v4::<F32>(at, row)),
            None => k.st_global_v4::<F32>(at, row),
        }
    }
}

/// The parts of a row's features, in the order of their positions, brought to one maximum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Combined {
    max: Var<F32>,
    sum: Var<F32>,
    values: [Var<F32>; 4],
}

impl Combined {
    pub fn new(k: &mut KernelBuilder) -> Self {
        Self {
            max: k.named_var::<F32>("all_max", f32::MIN),
            sum: k.named_var::<F32>("all_sum", 0.0),
            values: [(); 4].map(|()| k.var::<F32>(0.0)),
        }
    }

    /// Adds up to `count` parts from `base` on, of `chunks`, which `load` loads.
    pub fn add(
        &self,
        k: &mut KernelBuilder,
        count: u32,
        (base, chunks): (Reg<U32>, Reg<U32>),
        load: impl Fn(&mut KernelBuilder, Reg<U32>) -> Features,
    ) {
        k.comment("beyond the end the last part is read and its weight is 0");
        let last = k.sub(chunks, 1);
        let loaded: Vec<_> = (0..count)
            .map(|u| {
                let index = if u == 0 { base } else { k.add(base, u) };
                let read = k.min(index, last);
                let part = load(k, read);
                let valid = k.le(index, last);
                Features { max: k.selp(valid, part.max, f32::NEG_INFINITY), ..part }
            })
            .collect();
        let old = k.get(self.max);
        let new = loaded.iter().fold(old, |max, part| k.max(max, part.max));
        let below = k.sub(old, new);
        let factor = k.ex2_approx(below);
        k.set(self.max, new);
        for total in self.values.into_iter().chain([self.sum]) {
            k.update(total, |k, total| k.mul(total, factor));
        }
        for part in loaded {
            let below = k.sub(part.max, new);
            let weight = k.ex2_approx(below);
            k.update(self.sum, |k, sum| k.fma(part.sum, weight, sum));
            for (total, v) in self.values.into_iter().zip(part.values) {
                k.update(total, |k, total| k.fma(v, weight, total));
            }
        }
    }

    pub fn features(&self, k: &mut KernelBuilder) -> Features {
        Features { max: k.get(self.max), sum: k.get(self.sum), values: self.values.map(|v| k.get(v)) }
    }
}

/// Where the warps leave what they know of their heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Results {
    /// `[warps, heads, head_stride]`; `None` where each warp's are at the start of its ring, which it has read to the end.
    acc: Option<ArrayRef<F32>>,
    /// `[warps, heads]`
    pub max: ArrayRef<F32>,
    /// `[warps, heads]`
    pub sum: ArrayRef<F32>,
}

impl Results {
    pub fn new(k: &mut KernelBuilder, kernel: &Attention) -> Self {
        let entries = kernel.plan.warps() * kernel.plan.heads();
        let stride = kernel.plan.head_stride(kernel.cache.head_dim);
        let apart = !kernel.results_in_rings();
        Self {
            acc: apart.then(|| k.shared_aligned("acc", entries * stride, ALIGN)),
            max: k.shared("max", entries),
            sum: k.shared("sum", entries),
        }
    }

    /// Where the first warp's features are, `[heads, head_stride]`, and the bytes from there to the next one's.
    pub fn features(&self, k: &mut KernelBuilder, kernel: &Attention) -> (Reg<U32>, u32) {
        match self.acc {
            Some(acc) => {
                let stride = kernel.plan.head_stride(kernel.cache.head_dim);
                (k.shared_base(acc), kernel.plan.heads() * stride * 4)
            }
            None => (k.dynamic_shared(ALIGN), kernel.ring_bytes() / kernel.plan.warps()),
        }
    }
}
