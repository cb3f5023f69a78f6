//! What a warp knows of its heads while it attends.

use ptx_builder::{F32, KernelBuilder, Reg, U32, Var};

use super::MatrixPlan;

/// What a warp knows of its heads.
#[derive(Debug)]
pub(super) struct Heads {
    /// The largest score of head `g`, in units of log 2.
    pub max: Var<F32>,
    /// The lane's part of the sum of `2^(score - max + LIFT)` of head `g`.
    pub sum: Var<F32>,
    /// The values weighted likewise. Of every two features of the lane: the first of heads `2 t` and `2 t + 1`, the second
    /// of both.
    pub acc: Vec<[Var<F32>; 4]>,
}

impl Heads {
    pub fn new(k: &mut KernelBuilder, plan: MatrixPlan) -> Self {
        let pairs = plan.value_rounds() * MatrixPlan::PIECE / 2;
        Self {
            // Finite, so that "nothing yet" minus "nothing yet" is 0.
            max: k.var::<F32>(f32::MIN),
            sum: k.var::<F32>(0.0),
            acc: (0..pairs).map(|_| [(); 4].map(|()| k.var::<F32>(0.0))).collect(),
        }
    }

    /// Multiplies the weighted values of each head by the factor that the lanes of row `g` have for head `g`.
    pub fn rescale(&self, k: &mut KernelBuilder, factor: Reg<F32>, column: Reg<U32>) {
        let lane = k.shl(column, 2);
        let next = k.add(lane, 4);
        let factors = [lane, next].map(|lane| k.shfl_idx(factor, lane));
        for acc in &self.acc {
            for (index, &acc) in acc.iter().enumerate() {
                k.update(acc, |k, acc| k.mul(acc, factors[index % 2]));
            }
        }
    }
}
