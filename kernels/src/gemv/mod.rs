//! Matrix-vector products: a weight matrix times one to eight activation rows.
//!
//! [`Gemv`] takes f32 activations and every weight type; [`GemvQ8`] takes activations quantised by
//! [`QuantizeQ8`](crate::quantize::QuantizeQ8) and multiplies bytes by `dp4a`. Both read weights in
//! the device's layout ([`tensor_formats::planes`]), each byte once, and add a row's products in an order that the matrix alone decides: an activation row gives the same bits
//! whatever shares its batch, on every device.
//!
//! | file | what |
//! |---|---|
//! | `geometry` | threads, rows and blocks for a shape |
//! | `emit` | the kernel around the formats of [`blocks`](crate::blocks) |
//! | `replay` | the same arithmetic in plain Rust, bit for bit |

mod cases;
mod emit;
mod geometry;
mod replay;

use ptx_builder::{Module, Target};
use tensor_formats::reference::dequantize_row_f64;
use tensor_formats::{ElementType, FormatError};

use crate::blocks::WeightFormat;
use crate::blocks::partition::Partition;
use crate::support::{dim, matrix_extent, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};
pub(crate) use cases::{cases, catalogue, invariances};
use geometry::Spread;

/// The largest number of activation rows of one launch.
pub const MAX_BATCH: usize = 8;

/// Limits that keep offsets from a pointer of a thread within 31 bits; pointers themselves have 64.
const MAX_OUT_FEATURES: usize = 1 << 26;
const MAX_IN_FEATURES: usize = 1 << 22;

/// `y[b, o] = sum over i of w[o, i] * x[b, i]`, with f32 activations.
///
/// Parameters: `w` `[out_features, in_features]` in the device's layout, `x` `[batch, in_features]` f32,
/// `y` `[batch, out_features]` f32. Weights are dequantised to f32, which is exact but for Q4_K (one rounding), and
/// accumulated by fused multiply-adds.
///
/// ```
/// use kernels::{Kernel, gemv::Gemv};
/// use tensor_formats::ElementType;
/// let kernel = Gemv::new(ElementType::Q4_K, 8960, 1536, 1)?;
/// assert_eq!(kernel.params()[0].bytes, 8960 * 1536 / 256 * 144);
/// # Ok::<(), kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gemv(Matrix);

/// `y[b, o] = sum over i of w[o, i] * x[b, i]`, with Q8 activations.
///
/// Parameters: `w` `[out_features, in_features]` of any quantised type in the device's layout, `x` `[batch, in_features]` Q8Act
/// (see [`tensor_formats::q8_act`]), `y` `[batch, out_features]` f32. The products of the values that share a scale are
/// added as integers, exactly; those sums are scaled and accumulated in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GemvQ8(Matrix);

/// What both kernels are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Matrix {
    element: ElementType,
    format: WeightFormat,
    rows: u32,
    cols: u32,
    row_bytes: u32,
    batch: u32,
}

impl Gemv {
    /// The kernel for a matrix `[out_features, in_features]` of type `element` and `batch` activation rows.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a row is not whole blocks; [`KernelError::Unsupported`] if `element` is no weight
    /// type, for a dimension of 0, more than 2^26 output or 2^22 input features, a matrix beyond 2^48 bytes, or a batch
    /// beyond [`MAX_BATCH`].
    pub fn new(
        element: ElementType,
        out_features: usize,
        in_features: usize,
        batch: usize,
    ) -> Result<Self, KernelError> {
        Ok(Self(Matrix::new("gemv", element, out_features, in_features, batch)?))
    }

    /// What the kernel computes, in f64, given `w` in GGUF's layout and `x`.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, w: &[u8], x: &[f32]) -> Result<Vec<f64>, KernelError> {
        let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        self.0.reference(w, &x)
    }

    fn activations(&self) -> Activations {
        Activations::F32 { align: self.0.partition().runs[0].len.min(4) * 4 }
    }
}

impl GemvQ8 {
    /// The kernel for a matrix `[out_features, in_features]` of type `element` and `batch` activation rows.
    ///
    /// # Errors
    /// As [`Gemv::new`]; also [`KernelError::Unsupported`] if `element` is not quantised.
    pub fn new(
        element: ElementType,
        out_features: usize,
        in_features: usize,
        batch: usize,
    ) -> Result<Self, KernelError> {
        let matrix = Matrix::new("gemv_q8", element, out_features, in_features, batch)?;
        if !matrix.format.has_bytes() {
            return Err(refuse("gemv_q8", format!("weights of type {element}")));
        }
        Ok(Self(matrix))
    }

    /// What the kernel computes, in f64, given `w` in GGUF's layout and the quantised `x`.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, w: &[u8], x: &[u8]) -> Result<Vec<f64>, KernelError> {
        let cols = self.0.cols as usize;
        let row_bytes = ElementType::Q8Act.row_bytes(cols)?;
        let (what, batch, actual) = ("bytes of x", self.0.batch as usize, x.len());
        if actual != batch * row_bytes {
            return Err(FormatError::Length { what, expected: batch * row_bytes, actual }.into());
        }
        let mut values = vec![0.0; batch * cols];
        for (row, values) in x.chunks(row_bytes).zip(values.chunks_mut(cols)) {
            dequantize_row_f64(ElementType::Q8Act, row, values)?;
        }
        self.0.reference(w, &values)
    }

    fn activations(&self) -> Activations {
        // Rows of Q8Act are multiples of 40 bytes.
        Activations::Q8 { align: if self.0.cols.is_multiple_of(64) { 16 } else { 8 } }
    }
}

/// The activations' type, and the alignment that their loads need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activations {
    F32 { align: u32 },
    Q8 { align: u32 },
}

impl Matrix {
    fn new(
        kernel: &'static str,
        element: ElementType,
        out_features: usize,
        in_features: usize,
        batch: usize,
    ) -> Result<Self, KernelError> {
        let limited = |name: &str, value: usize, most: usize| {
            if value > most {
                return Err(refuse(kernel, format!("{name} is {value}, the most is {most}")));
            }
            dim(kernel, name, value)
        };
        let Some(format) = WeightFormat::of(element) else {
            return Err(refuse(kernel, format!("weights of type {element}")));
        };
        let matrix = Self {
            element,
            format,
            rows: limited("out_features", out_features, MAX_OUT_FEATURES)?,
            cols: limited("in_features", in_features, MAX_IN_FEATURES)?,
            row_bytes: dim(kernel, "bytes of a row", element.row_bytes(in_features)?)?,
            batch: limited("batch", batch, MAX_BATCH)?,
        };
        matrix_extent(kernel, "w", matrix.rows, matrix.row_bytes)?;
        Ok(matrix)
    }

    fn name(&self, family: &str) -> String {
        let Self { element, rows, cols, batch, .. } = self;
        format!("{family}_{}_{rows}x{cols}_b{batch}", element.name().to_lowercase())
    }

    fn partition(&self) -> Partition {
        self.format.partition(self.cols)
    }

    fn spread(&self) -> Spread {
        Spread::new(&self.partition(), self.rows, self.cols, self.batch)
    }

    fn params(&self, activations: Activations) -> Vec<Param> {
        let (rows, cols, batch) = (u64::from(self.rows), u64::from(self.cols), u64::from(self.batch));
        let (element, row_bytes, align) = match activations {
            Activations::F32 { align } => (ElementType::F32, cols * 4, align),
            Activations::Q8 { align } => (ElementType::Q8Act, cols / 32 * 40, align),
        };
        let widest = self.partition().loads.iter().map(|load| load.bytes).max();
        vec![
            Param {
                name: "w",
                access: Access::Read,
                element: self.element,
                bytes: rows * u64::from(self.row_bytes),
                align: widest.unwrap_or(1),
            },
            Param { name: "x", access: Access::Read, element, bytes: batch * row_bytes, align },
            Param {
                name: "y",
                access: Access::Write,
                element: ElementType::F32,
                bytes: batch * rows * 4,
                // Rows that a thread works on together are stored together.
                align: 4 * self.spread().rows_per_thread,
            },
        ]
    }

    fn geometry(&self) -> LaunchGeometry {
        let spread = self.spread();
        LaunchGeometry {
            grid: [spread.blocks(self.rows), 1, 1],
            block: [spread.block_threads, 1, 1],
            dynamic_shared: 0,
        }
    }

    fn cost(&self, activations: Activations) -> Cost {
        let params = self.params(activations);
        Cost {
            bytes_read: params[0].bytes + params[1].bytes,
            bytes_written: params[2].bytes,
            operations: 2 * u64::from(self.rows) * u64::from(self.cols) * u64::from(self.batch),
        }
    }

    fn reference(&self, w: &[u8], x: &[f64]) -> Result<Vec<f64>, KernelError> {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        let check = |what, expected: usize, actual: usize| match expected == actual {
            true => Ok(()),
            false => Err(tensor_formats::FormatError::Length { what, expected, actual }),
        };
        check("bytes of w", rows * self.row_bytes as usize, w.len())?;
        check("values of x", self.batch as usize * cols, x.len())?;
        let mut y = vec![0.0; self.batch as usize * rows];
        let mut values = vec![0.0; cols];
        for (o, row) in w.chunks(self.row_bytes as usize).enumerate() {
            dequantize_row_f64(self.element, row, &mut values)?;
            for (b, x) in x.chunks(cols).enumerate() {
                y[b * rows + o] = values.iter().zip(x).map(|(w, x)| w * x).sum();
            }
        }
        Ok(y)
    }
}

impl Kernel for Gemv {
    fn name(&self) -> String {
        self.0.name("gemv")
    }

    fn params(&self) -> Vec<Param> {
        self.0.params(self.activations())
    }

    fn geometry(&self) -> LaunchGeometry {
        self.0.geometry()
    }

    fn cost(&self, _context: u64) -> Cost {
        self.0.cost(self.activations())
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        let emitter = emit::Emitter::new(&self.0, self.activations());
        crate::emit::module(self, target, |k, pointers| emitter.emit(k, pointers))
    }
}

impl Kernel for GemvQ8 {
    fn name(&self) -> String {
        self.0.name("gemv_q8")
    }

    fn params(&self) -> Vec<Param> {
        self.0.params(self.activations())
    }

    fn geometry(&self) -> LaunchGeometry {
        self.0.geometry()
    }

    fn cost(&self, _context: u64) -> Cost {
        self.0.cost(self.activations())
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        let emitter = emit::Emitter::new(&self.0, self.activations());
        crate::emit::module(self, target, |k, pointers| emitter.emit(k, pointers))
    }
}
