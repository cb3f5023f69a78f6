//! Rows of activations as halves, or as bfloat16, for [`Gemm`](super::Gemm).

use ptx_builder::{B32, F32, KernelBuilder, Module, Reg, Target, U32, U64};
use tensor_formats::ElementType;

use super::gemm::padded;
use super::shape::{MOST_COLS, MULTIPLE_OF_GEMM};
use crate::blocks::WeightFormat;
use crate::blocks::half::STEP_COLS;
use crate::emit::{self, Block};
use crate::factor::{self, Factor};
use crate::support::{WARP, dim, dim_up_to, extent, f32_param, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "half_rows";

/// Threads of a block at most. Rows are few, and a processor has no room for many such blocks, so that each gets one.
const THREADS: u32 = 1024;

/// Columns that a thread takes together: a word of the even ones, and one of the odd ones.
const TOGETHER: u32 = 4;

/// How often a thread takes so many and holds them in registers.
const HELD: u32 = 4;

/// Rows of activations as halves, each row times a power of two, and what that has to be undone with.
///
/// `factors[r] * y[r]` is `x[r]` or, with a norm, `x[r] * norm / sqrt(mean(x[r]^2) + eps)`. Of every
/// sixteen columns the even ones come first, and then the odd ones. Rows behind the last one, up to a multiple of what a block
/// of [`Gemm`](super::Gemm) takes, are zeros.
///
/// Parameters: `x` `[rows, cols]` f32, `norm` `[cols]` f32 if there is one, `y` `[padded rows, cols]` f16 or bf16,
/// `factors` `[padded rows]` f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HalfRows {
    rows: u32,
    cols: u32,
    eps: Option<f32>,
    factor: Factor,
}

impl HalfRows {
    /// The kernel for `rows` rows of `cols` values, with a norm if there is an `eps`.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for columns that are not a multiple of 128, sizes out of range, and an `eps` that is
    /// negative or not finite.
    pub fn new(rows: usize, cols: usize, eps: Option<f32>) -> Result<Self, KernelError> {
        let (rows, cols) = (dim(FAMILY, "rows", rows)?, dim_up_to(FAMILY, "cols", cols, MOST_COLS)?);
        if !cols.is_multiple_of(MULTIPLE_OF_GEMM) {
            let reason = format!("{cols} columns, which are not a multiple of {MULTIPLE_OF_GEMM}");
            return Err(refuse(FAMILY, reason));
        }
        if eps.is_some_and(|eps| !(eps.is_finite() && eps >= 0.0)) {
            return Err(refuse(FAMILY, "eps is negative or not finite".into()));
        }
        extent(FAMILY, "x", &[padded(rows), cols])?;
        Ok(Self { rows, cols, eps, factor: Factor::F16 })
    }

    /// The same for a [`Gemm`](super::Gemm) with weights of type `element`: bfloat16 where these are bfloat16.
    #[must_use]
    pub fn of_weights(self, element: ElementType) -> Self {
        let factor = WeightFormat::of(element).map_or(Factor::F16, WeightFormat::factor_of_many_rows);
        Self { factor, ..self }
    }

    /// What `y` holds: F16 or BF16.
    pub const fn element(&self) -> ElementType {
        self.factor.element()
    }

    pub(super) fn round(&self, value: f32) -> f32 {
        self.factor.round(value)
    }

    /// The tensors that a [`Gemm`](super::Gemm) of these rows reads: bytes of `y`, and of `factors`.
    pub fn bytes(&self) -> [u64; 2] {
        let rows = u64::from(padded(self.rows));
        [rows * u64::from(self.cols) * 2, rows * 4]
    }

    /// Rows, columns, and what is added to the mean square of a norm.
    pub(super) const fn size(&self) -> (usize, usize, Option<f32>) {
        (self.rows as usize, self.cols as usize, self.eps)
    }

    /// What threads take of a row.
    const fn quads(&self) -> u32 {
        self.cols / TOGETHER
    }

    const fn threads(&self) -> u32 {
        let threads = self.quads().next_multiple_of(WARP);
        if threads < THREADS { threads } else { THREADS }
    }

    fn build(&self, k: &mut KernelBuilder, pointers: &[Reg<U64>]) {
        let (x, norm, y, factors) = match *pointers {
            [x, norm, y, factors] => (x, Some(norm), y, factors),
            [x, y, factors] => (x, None, y, factors),
            _ => return,
        };
        let (tid, row) = (k.tid_x(), k.ctaid_x());
        let y = k.ptr_index(y, row, self.cols * 2);
        let factor = k.ptr_index(factors, row, 4);
        let is_first = k.eq(tid, 0);
        if padded(self.rows) > self.rows {
            let beyond = k.ge(row, self.rows);
            k.if_(beyond, |k| {
                k.for_range(tid, self.quads(), self.threads(), |k, quad| {
                    let zero = k.imm::<B32>(0);
                    store_words(k, (y, quad), [zero; 2]);
                });
                let zero = k.imm::<F32>(0.0);
                k.guarded(is_first, |k| k.st_global::<F32>(factor, zero));
                k.ret();
            });
        }
        let x = k.ptr_index(x, row, self.cols * 4);
        let (largest, squares) = (k.named_var::<U32>("largest", 0), k.named_var::<F32>("squares", 0.0));
        let see = |k: &mut KernelBuilder, quad: Reg<U32>| {
            let values = load(k, x, quad);
            if self.eps.is_some() {
                k.update(squares, |k, sum| {
                    values.iter().fold(sum, |sum, &value| k.fma::<F32>(value, value, sum))
                });
            }
            let weighted = weighted(k, values, (norm, quad));
            k.update(largest, |k, largest| {
                weighted.iter().fold(largest, |largest, &value| {
                    let bits = k.f32_to_bits(value);
                    let magnitude = k.and::<B32>(bits, 0x7fff_ffffu32).cast::<U32>();
                    k.max::<U32>(largest, magnitude)
                })
            });
            weighted
        };
        // Where a thread has few of them, it holds them.
        let mut held = Vec::new();
        if self.quads() <= HELD * self.threads() {
            for round in 0..self.quads().div_ceil(self.threads()) {
                let quad = if round == 0 { tid } else { k.add(tid, round * self.threads()) };
                let all = (round + 1) * self.threads() <= self.quads();
                let has = (!all).then(|| k.lt(quad, self.quads()));
                let values = [0; 4].map(|_| k.var::<F32>(0.0));
                emit::where_(k, has, |k| {
                    let seen = see(k, quad);
                    values.iter().zip(seen).for_each(|(&var, value)| k.set(var, value));
                });
                held.push((quad, has, values));
            }
        } else {
            k.for_range(tid, self.quads(), self.threads(), |k, quad| {
                see(k, quad);
            });
        }
        k.comment("magnitudes compared as floats: what is no number is the largest");
        let threads = self.threads();
        let largest = k.get(largest);
        let largest = k.bits_to_f32(largest.cast::<B32>());
        let largest =
            emit::block_reduce(k, largest, Block { thread: tid, threads, array: "largest" }, |k, a, b| {
                let [a, b] = [a, b].map(|value| k.f32_to_bits(value).cast::<U32>());
                let larger = k.max::<U32>(a, b);
                k.bits_to_f32(larger.cast::<B32>())
            });
        let mean = self.eps.map(|eps| {
            let squares = k.get(squares);
            let block = Block { thread: tid, threads, array: "squares" };
            let sum = emit::block_reduce(k, squares, block, |k, a, b| k.add::<F32>(a, b));
            k.fma::<F32>(sum, (self.cols as f32).recip(), eps)
        });
        let largest = k.f32_to_bits(largest).cast::<U32>();
        let broken = k.ge::<U32>(largest, f32::INFINITY.to_bits());
        let [up, down] = factor::range(k, largest, broken);
        k.guarded(is_first, |k| {
            let total = match mean {
                Some(mean) => {
                    let root = k.rsqrt_approx(mean);
                    k.mul::<F32>(root, down)
                }
                None => down,
            };
            k.st_global::<F32>(factor, total);
        });
        let store = |k: &mut KernelBuilder, quad: Reg<U32>, values: Quad| {
            let [a, b, c, d] = values.map(|value| k.mul::<F32>(value, up));
            let words = [[a, c], [b, d]].map(|pair| self.factor.word(k, pair));
            store_words(k, (y, quad), words);
        };
        if held.is_empty() {
            return k.for_range(tid, self.quads(), threads, |k, quad| {
                let values = load(k, x, quad);
                let values = weighted(k, values, (norm, quad));
                store(k, quad, values);
            });
        }
        for (quad, has, values) in held {
            emit::where_(k, has, |k| {
                let values = values.map(|value| k.get(value));
                store(k, quad, values);
            });
        }
    }
}

/// Values of consecutive columns.
type Quad = [Reg<F32>; TOGETHER as usize];

fn load(k: &mut KernelBuilder, row: Reg<U64>, quad: Reg<U32>) -> Quad {
    let at = k.ptr_index(row, quad, TOGETHER * 4);
    k.ld_global_v4::<F32>(at)
}

/// The values times the norm's weights, if there is one.
fn weighted(k: &mut KernelBuilder, values: Quad, (norm, quad): (Option<Reg<U64>>, Reg<U32>)) -> Quad {
    let Some(norm) = norm else { return values };
    let weights = load(k, norm, quad);
    std::array::from_fn(|i| k.mul::<F32>(values[i], weights[i]))
}

/// Stores the word of the even columns of a row, and that of the odd ones, where [`place`](crate::blocks::half::place) says.
fn store_words(k: &mut KernelBuilder, (row, quad): (Reg<U64>, Reg<U32>), words: [Reg<B32>; 2]) {
    let (step, within) = (k.shr(quad, 2), k.and(quad, 3));
    let at = k.ptr_index(row, step, STEP_COLS * 2);
    let at = k.ptr_index(at, within, 4);
    k.st_global::<B32>(at, words[0]);
    k.st_global::<B32>(at + STEP_COLS as i32, words[1]);
}

impl Kernel for HalfRows {
    fn name(&self) -> String {
        let eps = self.eps.map_or_else(String::new, |eps| format!("_eps{:08x}", eps.to_bits()));
        let of = match self.factor {
            Factor::F16 => "",
            Factor::Bf16 => "_bf16",
        };
        format!("{FAMILY}{of}_n{}{eps}_b{}", self.cols, self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let (rows, cols) = (u64::from(self.rows), u64::from(self.cols));
        let [y, factors] = self.bytes();
        let (access, element) = (Access::Write, self.factor.element());
        let norm = self.eps.map(|_| f32_param("norm", Access::Read, cols, 16));
        let mut params = vec![f32_param("x", Access::Read, rows * cols, 16)];
        params.extend(norm);
        params.push(Param { name: "y", access, element, bytes: y, align: 16 });
        params.push(f32_param("factors", access, factors / 4, 4));
        params
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry { grid: [padded(self.rows), 1, 1], block: [self.threads(), 1, 1], dynamic_shared: 0 }
    }

    fn min_target(&self) -> Target {
        // Conversions to pairs of halves.
        Target::SM_80
    }

    fn cost(&self, _context: u64) -> Cost {
        let (rows, cols) = (u64::from(self.rows), u64::from(self.cols));
        let norm = if self.eps.is_some() { cols * 4 } else { 0 };
        Cost {
            bytes_read: rows * cols * 4 + norm,
            bytes_written: self.bytes().iter().sum(),
            // A square, two products, a largest.
            operations: rows * cols * 5,
        }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module_that_waits(self, target, |k, pointers| {
            emit::let_next_begin(k);
            emit::wait(k);
            self.build(k, pointers);
        })
    }
}
