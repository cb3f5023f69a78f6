//! Softmax of rows.

use ptx_builder::{F32, KernelBuilder, Module, Reg, Target, U64};

use crate::cases::{Case, F32_BOUND};
use crate::emit::{self, Block, LOG2_E, RowPlan};
use crate::random::Random;
use crate::support::{boxed, dim, dim_up_to, extent, f32_param, f32_vector, known, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "soft_max";

/// `y[r, i] = exp(scale * x[r, i]) / sum_j exp(scale * x[r, j])`, computed relative to the row's maximum.
///
/// One block per row; the order of the sum depends on `n` alone. An entry of -inf gives 0; a row of nothing else, with
/// a NaN or +inf in it, or whose largest entry times `scale` and `log2(e)` is beyond f32, gives NaN. Parameters: `x` and `y` `[rows, n]` f32; `y` may be `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftMax {
    rows: u32,
    n: u32,
    scale: f32,
}

impl SoftMax {
    /// The kernel for `rows` rows of `n` values.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for `rows` of 0 or beyond 2^31, `n` of 0 or beyond 2^28, or a `scale` that is not
    /// positive or, times `log2(e)`, not finite.
    pub fn new(rows: usize, n: usize, scale: f32) -> Result<Self, KernelError> {
        let (rows, n) = (dim(FAMILY, "rows", rows)?, dim_up_to(FAMILY, "n", n, RowPlan::MAX_N)?);
        extent(FAMILY, "x", &[rows, n])?;
        if !(scale * LOG2_E).is_finite() || scale <= 0.0 {
            let reason = format!("scale is {scale}, it must be positive, and times log2(e) finite");
            return Err(refuse(FAMILY, reason));
        }
        Ok(Self { rows, n, scale })
    }

    /// What the kernel computes, in f64.
    ///
    /// # Panics
    /// If `x` does not have the length of the parameter.
    pub fn reference(&self, x: &[f32]) -> Vec<f64> {
        assert_eq!(x.len(), self.rows as usize * self.n as usize);
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks(self.n as usize) {
            let scaled: Vec<f64> = row.iter().map(|&v| f64::from(v) * f64::from(self.scale)).collect();
            let max = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let exps: Vec<f64> = scaled.iter().map(|v| (v - max).exp()).collect();
            let sum: f64 = exps.iter().sum();
            y.extend(exps.iter().map(|e| e / sum));
        }
        y
    }

    fn plan(&self) -> RowPlan {
        RowPlan::new(self.n, 2)
    }
}

impl Kernel for SoftMax {
    fn name(&self) -> String {
        format!("soft_max_f32_n{}_b{}_s{:08x}", self.n, self.rows, self.scale.to_bits())
    }

    fn params(&self) -> Vec<Param> {
        let elements = u64::from(self.rows) * u64::from(self.n);
        let align = f32_vector(self.n) * 4;
        vec![f32_param("x", Access::Read, elements, align), f32_param("y", Access::Write, elements, align)]
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry { grid: [self.rows, 1, 1], block: [self.plan().threads, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let elements = u64::from(self.rows) * u64::from(self.n);
        // Maximum, scale, exponential, sum, quotient.
        Cost { bytes_read: elements * 4, bytes_written: elements * 4, operations: elements * 5 }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, [x, y]| self.body(k, x, y))
    }
}

impl SoftMax {
    fn body(&self, k: &mut KernelBuilder, x: Reg<U64>, y: Reg<U64>) {
        let plan = self.plan();
        let thread = k.tid_x();
        let [x_row, y_row] = plan.rows(k, [x, y]);
        let x_first = plan.first(k, thread, x_row);
        let block = |array| Block { thread, threads: plan.threads, array };

        let max = k.named_var::<F32>("max", f32::NEG_INFINITY);
        let raise = |k: &mut KernelBuilder, values: &[Reg<F32>]| {
            for &v in values {
                k.update(max, |k, max| k.max(max, v));
            }
        };
        let mut kept = Vec::new();
        if plan.keeps_row() {
            k.comment("the row stays in registers");
            kept = plan.load_all(k, thread, x_first, f32::NEG_INFINITY);
            kept.iter().for_each(|values| raise(k, values));
        } else {
            plan.for_units(k, thread, |k, offset| {
                let at = k.add(x_row, offset);
                let values = emit::load(k, at, plan.vector);
                raise(k, &values);
            });
        }
        let max = k.get(max);
        let max = emit::block_reduce(k, max, block("maxima"), |k, a, b| k.max(a, b));

        k.comment("exp(scale * (x - max)) = 2^(scale * log2(e) * x - shift)");
        let factor = self.scale * LOG2_E;
        let shift = k.mul(max, -factor);
        let exponential = |k: &mut KernelBuilder, v: Reg<F32>| {
            let power = k.fma(v, factor, shift);
            k.ex2_approx(power)
        };
        let sum = k.named_var::<F32>("sum", 0.0);
        if plan.keeps_row() {
            for values in &mut kept {
                for v in values {
                    *v = exponential(k, *v);
                    k.update(sum, |k, sum| k.add(sum, *v));
                }
            }
        } else {
            plan.for_units(k, thread, |k, offset| {
                let at = k.add(x_row, offset);
                for v in emit::load(k, at, plan.vector) {
                    let v = exponential(k, v);
                    k.update(sum, |k, sum| k.add(sum, v));
                }
            });
        }
        let sum = k.get(sum);
        let sum = emit::block_reduce(k, sum, block("sums"), |k, a, b| k.add(a, b));
        let norm = k.rcp(sum);
        if plan.keeps_row() {
            kept.iter_mut().flatten().for_each(|v| *v = k.mul(*v, norm));
            let y_first = plan.first(k, thread, y_row);
            plan.store_all(k, thread, y_first, &kept);
        } else {
            plan.for_units(k, thread, |k, offset| {
                let [x, y] = [x_row, y_row].map(|row| k.add(row, offset));
                let mut values = emit::load(k, x, plan.vector);
                for v in &mut values {
                    let e = exponential(k, *v);
                    *v = k.mul(e, norm);
                }
                emit::store(k, y, &values);
            });
        }
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shapes = [(1, 64), (2, 77), (1, 32_000), (1, 151_936)];
    shapes.into_iter().map(|(rows, n)| boxed(SoftMax::new(rows, n, 1.0))).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let case = |rows: usize, n: usize, scale: f32, in_place: bool| {
        let kernel = known(SoftMax::new(rows, n, scale));
        let x: Vec<f32> = Random::new((rows * n) as u64).f32s(rows * n).iter().map(|v| v * 3.0).collect();
        let y = kernel.reference(&x);
        let case = Case::new(kernel, "");
        let case = if in_place { case.with_alias("y", "x") } else { case };
        case.with_f32("x", &x).expect_f32("y", y, n, F32_BOUND)
    };
    let special = |data: &str, x: &[f32]| {
        let kernel = known(SoftMax::new(1, x.len(), 1.0));
        let y = kernel.reference(x);
        Case::new(kernel, data).with_f32("x", x).expect_f32("y", y, x.len(), F32_BOUND)
    };
    let inf = f32::INFINITY;
    let mut large = Random::new(1).f32s(300);
    large.iter_mut().for_each(|v| *v = *v * 20.0 + 10_000.0);
    let mut cases: Vec<Case> =
        [1, 2, 5, 8, 9, 16, 32].into_iter().map(|r| case(r, 130, 0.5, false)).collect();
    let sizes = [1, 2, 31, 32, 33, 1023, 1024, 1025, 8196, 32_000, 50_257];
    cases.extend(sizes.map(|n| case(2, n, 1.0, false)));
    cases.extend([case(2, 200, 1.0, true), case(1, 99, 1.0, true)]);
    cases.push(special("masked", &[1.0, -inf, 2.0, -inf, -inf]));
    cases.push(special("all_masked", &[-inf; 8]));
    let beyond = known(SoftMax::new(2, 2, 1e38));
    let beyond = Case::new(beyond, "beyond").with_f32("x", &[3.0, 0.0, 2.0, 1.0]);
    let y = vec![f64::NAN, f64::NAN, 1.0, 0.0];
    cases.push(beyond.expect_f32("y", y, 2, F32_BOUND));
    cases.push(special("nan", &[0.0, 1.0, f32::NAN, 2.0, 3.0, 4.0]));
    cases.push(special("large", &large));
    // The largest element of each row is elsewhere, and without it the others overflow.
    cases.extend([33, 99, 130, 1000, 1025, 8196].map(|n| {
        let rows = 96;
        let kernel = known(SoftMax::new(rows, n, 1.0));
        let mut random = Random::new(n as u64);
        let mut x = random.f32s(rows * n);
        x.chunks_exact_mut(n).for_each(|row| row[random.below(n as u32) as usize] = 500.0);
        let y = kernel.reference(&x);
        Case::new(kernel, "peaks").with_f32("x", &x).expect_f32("y", y, n, F32_BOUND)
    }));
    // The same in each of the 32 warps of a block and the 32 elements of a thread; in a loop over longer rows too.
    cases.extend([32_000, 32_772, 40_001].map(|n: usize| {
        let kernel = known(SoftMax::new(32, n, 1.0));
        let vector = if n.is_multiple_of(4) { 4 } else { 1 };
        let mut x = Random::new(n as u64).f32s(32 * n);
        for (row, x) in x.chunks_exact_mut(n).enumerate() {
            let thread = 32 * row + 7 * row % 32;
            let (step, element) = (row / vector, row % vector);
            let at = (step * 1024 + thread) * vector + element;
            x[if at < n { at } else { thread * vector }] = 500.0;
        }
        let y = kernel.reference(&x);
        Case::new(kernel, "a_peak_in_each_warp").with_f32("x", &x).expect_f32("y", y, n, F32_BOUND)
    }));
    // So low that a maximum of zero would leave nothing of them.
    cases.push(special("low", &[-1000.0, -1001.0, -999.5, -1000.25, -1000.0]));
    cases
}
