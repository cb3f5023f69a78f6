//! Root mean square normalisation of rows.

use ptx_builder::{F32, KernelBuilder, Module, Reg, Target, U64};

use crate::cases::{Case, F32_BOUND, Invariance};
use crate::emit::{self, Block, RowPlan};
use crate::random::Random;
use crate::support::{boxed, dim, dim_up_to, extent, f32_param, f32_vector, known, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "rms_norm";

/// `y[r, i] = x[r, i] * w[i] / sqrt(mean(x[r, ..]^2) + eps)`.
///
/// One block per row. The order of the sum depends on `n` alone, so a row's result does not depend on the batch.
/// Parameters: `x` `[rows, n]`, `w` `[n]`, `y` `[rows, n]`, all f32; `y` may be `x`.
///
/// ```
/// use kernels::{Kernel, rms_norm::RmsNorm};
/// let kernel = RmsNorm::new(2, 2048, 1e-5)?;
/// assert_eq!(kernel.geometry().grid, [2, 1, 1]);
/// # Ok::<(), kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNorm {
    rows: u32,
    n: u32,
    eps: f32,
}

impl RmsNorm {
    /// The kernel for `rows` rows of `n` features.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for `rows` of 0 or beyond 2^31, `n` of 0 or beyond 2^28, or an `eps` that is negative or not finite.
    pub fn new(rows: usize, n: usize, eps: f32) -> Result<Self, KernelError> {
        let (rows, n) = (dim(FAMILY, "rows", rows)?, dim_up_to(FAMILY, "n", n, RowPlan::MAX_N)?);
        extent(FAMILY, "x", &[rows, n])?;
        if !eps.is_finite() || eps < 0.0 {
            return Err(refuse(FAMILY, format!("eps is {eps}")));
        }
        Ok(Self { rows, n, eps })
    }

    /// What the kernel computes, in f64.
    ///
    /// # Panics
    /// If the slices do not have the lengths of the parameters.
    pub fn reference(&self, x: &[f32], w: &[f32]) -> Vec<f64> {
        assert_eq!((x.len(), w.len()), (self.rows as usize * self.n as usize, self.n as usize));
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks(w.len()) {
            let squares: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let scale = (squares / f64::from(self.n) + f64::from(self.eps)).sqrt().recip();
            y.extend(row.iter().zip(w).map(|(&v, &w)| f64::from(v) * scale * f64::from(w)));
        }
        y
    }

    fn plan(&self) -> RowPlan {
        RowPlan::new(self.n, 2)
    }
}

impl Kernel for RmsNorm {
    fn name(&self) -> String {
        format!("rms_norm_f32_n{}_b{}_eps{:08x}", self.n, self.rows, self.eps.to_bits())
    }

    fn params(&self) -> Vec<Param> {
        let elements = u64::from(self.rows) * u64::from(self.n);
        let align = f32_vector(self.n) * 4;
        vec![
            f32_param("x", Access::Read, elements, align),
            f32_param("w", Access::Read, self.n.into(), align),
            f32_param("y", Access::Write, elements, align),
        ]
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry { grid: [self.rows, 1, 1], block: [self.plan().threads, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let (rows, n) = (u64::from(self.rows), u64::from(self.n));
        // Square and add, two products; the root of each row.
        Cost { bytes_read: (rows * n + n) * 4, bytes_written: rows * n * 4, operations: rows * (4 * n + 4) }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, [x, w, y]| self.body(k, x, w, y))
    }
}

impl RmsNorm {
    fn body(&self, k: &mut KernelBuilder, x: Reg<U64>, w: Reg<U64>, y: Reg<U64>) {
        let plan = self.plan();
        let thread = k.tid_x();
        let [x_row, y_row] = plan.rows(k, [x, y]);
        let squares = k.named_var::<F32>("squares", 0.0);
        let add_squares = |k: &mut KernelBuilder, values: &[Reg<F32>]| {
            for &v in values {
                k.update(squares, |k, sum| k.fma(v, v, sum));
            }
        };

        let x_first = plan.first(k, thread, x_row);
        let w_first = plan.first(k, thread, w);
        let mut kept = Vec::new();
        if plan.keeps_row() {
            k.comment("the row stays in registers");
            kept = plan.load_all(k, thread, x_first, 0.0);
            kept.iter().for_each(|values| add_squares(k, values));
        } else {
            plan.for_units(k, thread, |k, offset| {
                let at = k.add(x_row, offset);
                let values = emit::load(k, at, plan.vector);
                add_squares(k, &values);
            });
        }

        let squares = k.get(squares);
        let block = Block { thread, threads: plan.threads, array: "sums" };
        let sum = emit::block_reduce(k, squares, block, |k, a, b| k.add(a, b));
        k.comment("1 / sqrt(mean + eps)");
        let mean = k.fma(sum, (self.n as f32).recip(), self.eps);
        let scale = k.rsqrt_approx(mean);
        let normalise = |k: &mut KernelBuilder, values: &[Reg<F32>], weights: &[Reg<F32>]| -> Vec<Reg<F32>> {
            let product = |(&v, &w)| {
                let v = k.mul(v, scale);
                k.mul(v, w)
            };
            values.iter().zip(weights).map(product).collect()
        };
        if plan.keeps_row() {
            let weights = plan.load_all(k, thread, w_first, 0.0);
            let out: Vec<_> = kept.iter().zip(&weights).map(|(v, w)| normalise(k, v, w)).collect();
            let y_first = plan.first(k, thread, y_row);
            plan.store_all(k, thread, y_first, &out);
        } else {
            plan.for_units(k, thread, |k, offset| {
                let [x, w, y] = [x_row, w, y_row].map(|row| k.add(row, offset));
                let values = emit::load(k, x, plan.vector);
                let weights = emit::load(k, w, plan.vector);
                let out = normalise(k, &values, &weights);
                emit::store(k, y, &out);
            });
        }
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shapes = [(1, 64), (2, 77), (1, 2048), (8, 1536), (1, 4096), (1, 40_000)];
    shapes.into_iter().map(|(rows, n)| boxed(RmsNorm::new(rows, n, 1e-5))).collect()
}

fn case(rows: usize, n: usize, in_place: bool) -> Case {
    let case = scaled_case(rows, n, 1.0, "");
    if in_place { case.with_alias("y", "x") } else { case }
}

/// Activations that are normally distributed with deviation `deviation`.
fn scaled_case(rows: usize, n: usize, deviation: f32, data: &str) -> Case {
    let kernel = known(RmsNorm::new(rows, n, 1e-5));
    let mut random = Random::new((rows * n) as u64);
    let (x, w) = (random.f32s(rows * n), random.f32s(n));
    let x: Vec<f32> = x.iter().map(|v| v * deviation).collect();
    let y = kernel.reference(&x, &w);
    Case::new(kernel, data).with_f32("x", &x).with_f32("w", &w).expect_f32("y", y, n, F32_BOUND)
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let batches = [1, 2, 5, 8, 9, 16, 32].map(|rows| case(rows, 576, false));
    let sizes = [1, 2, 3, 4, 31, 33, 127, 128, 1000, 1023, 1536, 2048, 4096, 8191, 8192, 40_000, 65_537];
    let sizes = sizes.map(|n| case(2, n, false));
    let in_place = [case(3, 896, true), case(2, 101, true)];
    // The mean of squares is less than `eps`, or zero.
    let small = [896, 40_000].map(|n| scaled_case(2, n, 1e-3, "small"));
    let zeros = [scaled_case(1, 896, 0.0, "zeros")];
    batches.into_iter().chain(sizes).chain(in_place).chain(small).chain(zeros).collect()
}

/// A row in a batch and that row alone.
pub(crate) fn invariances() -> Vec<Invariance> {
    let pair = |n: usize| {
        let (batch, row) = (5, 3);
        let mut random = Random::new(n as u64);
        let (x, w) = (random.f32s(batch * n), random.f32s(n));
        let case = |rows: usize, x: &[f32]| {
            let kernel = known(RmsNorm::new(rows, n, 1e-6));
            let y = kernel.reference(x, &w);
            Case::new(kernel, "").with_f32("x", x).with_f32("w", &w).expect_f32("y", y, n, F32_BOUND)
        };
        Invariance {
            name: format!("rms_norm_f32_n{n}/row_{row}_of_{batch}"),
            left: case(batch, &x),
            right: case(1, &x[row * n..(row + 1) * n]),
            param: "y",
            left_bytes: row * n * 4..(row + 1) * n * 4,
            right_bytes: 0..n * 4,
        }
    };
    [77, 2048, 5120].map(pair).into()
}
