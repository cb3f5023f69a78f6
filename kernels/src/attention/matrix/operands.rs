//! f32 values as operands of products of 16-bit floats.

use ptx_builder::{B32, F32, KernelBuilder, Load, Reg, Space, U32, U64};

use super::MatrixPlan;
use crate::attention::Attention;
use crate::factor::Factor;
use crate::support::WARP;

/// Eight consecutive features of a query.
pub(in crate::attention) type Features = [[Reg<F32>; 4]; 2];

// A warp lays out one round.
const _: () = assert!(Attention::MAX_HEAD_DIM as u32 <= MatrixPlan::WARPS * MatrixPlan::KEY_ROUND);

/// The queries of the block's heads in shared memory: fragments of 16 features, of which rows `g` are the first parts of
/// head `g` and rows `g + 8` the second. Third parts are behind all of these. Heads that do not exist are zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queries {
    plan: MatrixPlan,
    /// The lane's place in the first fragment; one is `[lanes, 4]` words.
    place: Reg<U32>,
    /// The same for third parts, two words a lane.
    third: Option<Reg<U32>>,
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
        let place = k.mad(lane, 16, base);
        let third = (plan.factor.parts() == 3).then(|| {
            let behind = k.add(base, plan.fragments() * WARP * 16);
            k.mad(lane, 8, behind)
        });
        Self { plan, place, third, warp, lane, source }
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
        let words = features.map(|four| [0, 2].map(|i| self.plan.factor.split(k, [four[i], four[i + 1]])));
        let to = k.mad(self.warp, 2 * WARP * 16, self.place);
        let third = self.third.map(|third| k.mad(self.warp, 2 * WARP * 8, third));
        let is_round = k.lt(self.warp, self.plan.key_rounds());
        for (fragment, [low, high]) in (0..).zip(words) {
            let both = [low[0], low[1], high[0], high[1]];
            k.guarded(is_round, |k| {
                k.st_shared_v4::<B32>(to + fragment * WARP as i32 * 16, both);
                if let Some(third) = third {
                    k.st_shared_v2::<B32>(third + fragment * WARP as i32 * 8, [low[2], high[2]]);
                }
            });
        }
    }

    /// The lane's parts of all fragments.
    pub fn fragments(&self, k: &mut KernelBuilder) -> Vec<Fragment> {
        (0..self.plan.fragments()).map(|fragment| self.fragment(k, fragment)).collect()
    }

    /// The lane's parts of a fragment.
    pub fn fragment(&self, k: &mut KernelBuilder, fragment: u32) -> Fragment {
        let both = k.ld_shared_v4::<B32>(self.place + (fragment * WARP * 16) as i32);
        let third = self.third.map(|third| {
            let [low, high] = k.ld_shared_v2::<B32>(third + (fragment * WARP * 8) as i32);
            let zero = k.imm::<B32>(0);
            [zero, low, zero, high]
        });
        Fragment { both, third }
    }
}

/// Sixteen features of the queries, as operands of one product or of two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    /// First and second parts.
    both: [Reg<B32>; 4],
    /// Third parts, in the rows of the second.
    third: Option<[Reg<B32>; 4]>,
}

impl Fragment {
    /// Adds the products with a fragment of keys to `sum`.
    pub fn add(
        self,
        k: &mut KernelBuilder,
        factor: Factor,
        keys: [Reg<B32>; 2],
        mut sum: [Reg<F32>; 4],
    ) -> [Reg<F32>; 4] {
        for parts in [Some(self.both), self.third].into_iter().flatten() {
            sum = factor.product(k, parts, keys, sum);
        }
        sum
    }
}
