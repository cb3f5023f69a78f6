//! f32 values as operands of f16 products.

use ptx_builder::{B32, CvtRound, F16, F32, KernelBuilder, Load, Reg, Space, U32, U64};

use super::MatrixPlan;
use crate::attention::Attention;
use crate::support::WARP;

/// A value as the sum of two f16.
#[derive(Debug, Clone, Copy)]
pub(super) struct Halves {
    /// The nearest f16.
    pub upper: Reg<F16>,
    /// The f16 nearest to what is left.
    pub rest: Reg<F16>,
}

impl Halves {
    pub fn of(k: &mut KernelBuilder, value: Reg<F32>) -> Self {
        let upper = k.cvt_round::<F16>(CvtRound::Rn, value);
        let back = k.f16_to_f32(upper);
        let rest = k.sub(value, back);
        Self { upper, rest: k.cvt_round::<F16>(CvtRound::Rn, rest) }
    }
}

/// Eight consecutive features of a query.
pub(in crate::attention) type Features = [[Reg<F32>; 4]; 2];

// A warp lays out one round.
const _: () = assert!(Attention::MAX_HEAD_DIM as u32 <= MatrixPlan::WARPS * MatrixPlan::KEY_ROUND);

/// The queries of the block's heads in shared memory: fragments of 16 features, of which rows `g` are the upper parts of
/// head `g` and rows `g + 8` the rest of it. Heads that do not exist are zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queries {
    plan: MatrixPlan,
    /// The lane's place in the first fragment; one is `[lanes, 4]` words.
    place: Reg<U32>,
    warp: Reg<U32>,
    lane: Reg<U32>,
    /// The queries of the first head.
    source: Reg<U64>,
}

impl Queries {
    pub fn new(
        k: &mut KernelBuilder,
        plan: MatrixPlan,
        warp: Reg<U32>,
        lane: Reg<U32>,
        source: Reg<U64>,
    ) -> Self {
        let shared = k.shared_aligned::<B32>("queries", plan.query_bytes() / 4, 16);
        let base = k.shared_base(shared);
        Self { plan, place: k.mad(lane, 16, base), warp, lane, source }
    }

    /// Loads what the warp lays out: the lane's features of its round. `head` is the lane's row.
    pub fn load(&self, k: &mut KernelBuilder, head: Reg<U32>) -> Features {
        let plan = self.plan;
        k.comment("queries");
        let of_four = k.and(self.lane, 3);
        let feature = k.mul(of_four, MatrixPlan::PIECE);
        let feature = k.mad(self.warp, MatrixPlan::KEY_ROUND, feature);
        let inside = k.lt(feature, plan.head_dim);
        let is_head = k.lt(head, plan.heads);
        let exists = k.and_pred(inside, is_head);
        let index = k.mad(head, plan.head_dim, feature);
        let at = k.ptr_index(self.source, index, 4);
        [0, 16].map(|offset| k.load_v4_or::<F32>(exists, Space::Global, Load::WEAK, at + offset, 0.0))
    }

    /// Lays out the fragments from what it has [loaded](Self::load); a barrier has to follow.
    pub fn lay_out(&self, k: &mut KernelBuilder, features: Features) {
        k.comment("queries as fragments");
        let parts = features.map(|four| four.map(|feature| Halves::of(k, feature)));
        let to = k.mad(self.warp, 2 * WARP * 16, self.place);
        let is_round = k.lt(self.warp, self.plan.key_rounds());
        for (offset, parts) in [0, WARP as i32 * 16].into_iter().zip(parts) {
            let fragment = [0, 2].map(|i| {
                let upper = k.pack32::<B32, F16>(parts[i].upper, parts[i + 1].upper);
                [upper, k.pack32::<B32, F16>(parts[i].rest, parts[i + 1].rest)]
            });
            let [[a, b], [c, d]] = fragment;
            k.guarded(is_round, |k| k.st_shared_v4::<B32>(to + offset, [a, b, c, d]));
        }
    }

    /// The lane's parts of all fragments.
    pub fn fragments(&self, k: &mut KernelBuilder) -> Vec<[Reg<B32>; 4]> {
        (0..2 * self.plan.key_rounds()).map(|fragment| self.fragment(k, fragment)).collect()
    }

    /// The lane's part of a fragment.
    pub fn fragment(&self, k: &mut KernelBuilder, fragment: u32) -> [Reg<B32>; 4] {
        k.ld_shared_v4::<B32>(self.place + (fragment * WARP * 16) as i32)
    }
}
