//! Operations that treat every element alike: residual add, row bias, product, SiLU, SwiGLU.

use ptx_builder::{F32, KernelBuilder, Module, Reg, Target, U64};

use crate::cases::{Case, F32_BOUND};
use crate::emit::{self, LOG2_E};
use crate::random::Random;
use crate::support::{boxed, dim, extent, f32_param, f32_vector, flat_launch, known, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "elementwise";
const THREADS: u32 = 256;

/// What is computed for each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementwiseOp {
    /// `y = a + b`, equal shapes.
    Add,
    /// `y[r, i] = a[r, i] + b[i]`: `b` is one row.
    AddRow,
    /// `y = a * b`, equal shapes.
    Mul,
    /// `y = a * sigmoid(a)`; there is no `b`.
    Silu,
    /// `y = a * sigmoid(a) * b`: `a` is the gate projection, `b` the up projection.
    SwiGlu,
}

impl ElementwiseOp {
    /// Every operation, in declaration order.
    pub const ALL: [Self; 5] = [Self::Add, Self::AddRow, Self::Mul, Self::Silu, Self::SwiGlu];

    const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::AddRow => "add_row",
            Self::Mul => "mul",
            Self::Silu => "silu",
            Self::SwiGlu => "swiglu",
        }
    }

    const fn is_unary(self) -> bool {
        matches!(self, Self::Silu)
    }

    fn apply(self, a: f64, b: f64) -> f64 {
        let silu = |x: f64| x / (1.0 + (-x).exp());
        match self {
            Self::Add | Self::AddRow => a + b,
            Self::Mul => a * b,
            Self::Silu => silu(a),
            Self::SwiGlu => silu(a) * b,
        }
    }
}

/// An [`ElementwiseOp`] over `[rows, n]`.
///
/// Parameters: `a` `[rows, n]`, `b` (`[rows, n]`, or `[n]` for [`AddRow`](ElementwiseOp::AddRow); absent for
/// [`Silu`](ElementwiseOp::Silu)), `y` `[rows, n]`, all f32. `y` may be `a`, and `b` where `b` has its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elementwise {
    op: ElementwiseOp,
    rows: u32,
    n: u32,
}

impl Elementwise {
    /// The kernel for `op` on `rows` rows of `n` values.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for a dimension of 0, or more than 2^32 threads.
    pub fn new(op: ElementwiseOp, rows: usize, n: usize) -> Result<Self, KernelError> {
        let (rows, n) = (dim(FAMILY, "rows", rows)?, dim(FAMILY, "n", n)?);
        extent(FAMILY, "a", &[rows, n])?;
        let kernel = Self { op, rows, n };
        match flat_launch(kernel.units(), THREADS) {
            Some(_) => Ok(kernel),
            None => {
                Err(refuse(FAMILY, format!("{} of {rows} x {n} needs more than 2^32 threads", op.name())))
            }
        }
    }

    /// What the kernel computes, in f64. `b` is ignored by [`Silu`](ElementwiseOp::Silu).
    ///
    /// # Panics
    /// If the slices do not have the lengths of the parameters.
    pub fn reference(&self, a: &[f32], b: &[f32]) -> Vec<f64> {
        assert_eq!(a.len() as u64, self.elements());
        assert!(self.op.is_unary() || b.len() as u64 == self.b_elements());
        let b_at = |i: usize| match self.op {
            ElementwiseOp::Silu => 0.0,
            ElementwiseOp::AddRow => f64::from(b[i % self.n as usize]),
            _ => f64::from(b[i]),
        };
        a.iter().enumerate().map(|(i, &a)| self.op.apply(a.into(), b_at(i))).collect()
    }

    fn elements(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.n)
    }

    fn units(&self) -> u64 {
        self.elements() / u64::from(f32_vector(self.n))
    }

    fn b_elements(&self) -> u64 {
        match self.op {
            ElementwiseOp::Silu => 0,
            ElementwiseOp::AddRow => self.n.into(),
            _ => self.elements(),
        }
    }
}

impl Kernel for Elementwise {
    fn name(&self) -> String {
        format!("{}_f32_n{}_b{}", self.op.name(), self.n, self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let align = f32_vector(self.n) * 4;
        let mut params = vec![f32_param("a", Access::Read, self.elements(), align)];
        if !self.op.is_unary() {
            params.push(f32_param("b", Access::Read, self.b_elements(), align));
        }
        params.push(f32_param("y", Access::Write, self.elements(), align));
        params
    }

    fn geometry(&self) -> LaunchGeometry {
        let blocks = self.units().div_ceil(THREADS.into()) as u32;
        LaunchGeometry { grid: [blocks, 1, 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let operations = match self.op {
            ElementwiseOp::Add | ElementwiseOp::AddRow | ElementwiseOp::Mul => 1,
            // Negate and scale, exponential, add, quotient.
            ElementwiseOp::Silu => 4,
            ElementwiseOp::SwiGlu => 5,
        };
        Cost {
            bytes_read: (self.elements() + self.b_elements()) * 4,
            bytes_written: self.elements() * 4,
            operations: self.elements() * operations,
        }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        if self.op.is_unary() {
            emit::module(self, target, |k, [a, y]| self.body(k, a, None, y))
        } else {
            emit::module(self, target, |k, [a, b, y]| self.body(k, a, Some(b), y))
        }
    }
}

impl Elementwise {
    fn body(&self, k: &mut KernelBuilder, a: Reg<U64>, b: Option<Reg<U64>>, y: Reg<U64>) {
        let vector = f32_vector(self.n);
        let index = emit::flat_index(k, self.units(), THREADS);
        let at = |k: &mut KernelBuilder, base, index| k.ptr_index(base, index, vector * 4);
        let a_at = at(k, a, index);
        let a = emit::load(k, a_at, vector);
        let b = b.map(|b| {
            let row_units = self.n / vector;
            let index = match self.op {
                ElementwiseOp::AddRow => emit::split(k, index, self.units(), row_units).1,
                _ => index,
            };
            let b_at = at(k, b, index);
            emit::load(k, b_at, vector)
        });
        let out: Vec<_> = match b {
            None => a.iter().map(|&a| silu(k, a)).collect(),
            Some(b) => a.iter().zip(&b).map(|(&a, &b)| self.combine(k, a, b)).collect(),
        };
        let y_at = at(k, y, index);
        emit::store(k, y_at, &out);
    }

    fn combine(&self, k: &mut KernelBuilder, a: Reg<F32>, b: Reg<F32>) -> Reg<F32> {
        match self.op {
            ElementwiseOp::Add | ElementwiseOp::AddRow => k.add(a, b),
            ElementwiseOp::Mul => k.mul(a, b),
            ElementwiseOp::Silu | ElementwiseOp::SwiGlu => {
                let gate = silu(k, a);
                k.mul(gate, b)
            }
        }
    }
}

/// `x / (1 + exp(-x))`.
fn silu(k: &mut KernelBuilder, x: Reg<F32>) -> Reg<F32> {
    let power = k.mul(x, -LOG2_E);
    let exponential = k.ex2_approx(power);
    let denominator = k.add(exponential, 1.0);
    k.div_full(x, denominator)
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shapes = [(1, 64), (2, 77), (1, 8960), (8, 2048)];
    let kernel = |op| shapes.map(|(rows, n)| boxed(Elementwise::new(op, rows, n)));
    ElementwiseOp::ALL.into_iter().flat_map(kernel).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let case = |op: ElementwiseOp, rows: usize, n: usize, alias: Option<&str>| {
        let kernel = known(Elementwise::new(op, rows, n));
        let mut random = Random::new((rows * n) as u64);
        // Wide enough that the exponential of SiLU both vanishes and overflows.
        let a: Vec<f32> =
            random.f32s(rows * n).iter().map(|v| v * if n > 1000 { 60.0 } else { 3.0 }).collect();
        let b = random.f32s(kernel.b_elements() as usize);
        let y = kernel.reference(&a, &b);
        let case = Case::new(kernel, "");
        let case = if let Some(other) = alias { case.with_alias("y", other) } else { case };
        let case = if op.is_unary() { case } else { case.with_f32("b", &b) };
        case.with_f32("a", &a).expect_f32("y", y, n, F32_BOUND)
    };
    let mut cases = Vec::new();
    for op in ElementwiseOp::ALL {
        cases.extend([1, 2, 5, 8, 9, 16, 32].map(|rows| case(op, rows, 96, None)));
        cases.extend([1, 2, 3, 4, 5, 255, 256, 257, 1023, 1024, 4864, 8961].map(|n| case(op, 3, n, None)));
        cases.extend([case(op, 2, 1028, Some("a")), case(op, 3, 35, Some("a"))]);
        if !op.is_unary() && op != ElementwiseOp::AddRow {
            cases.extend([case(op, 2, 1028, Some("b")), case(op, 3, 35, Some("b"))]);
        }
    }
    cases
}
