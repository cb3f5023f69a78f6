//! Activations to Q8.

use ptx_builder::{B32, F32, KernelBuilder, Module, Pred, Reg, S32, Target, U32, U64};
use tensor_formats::{ElementType, quantize_row};

use crate::cases::Case;
use crate::random::Random;
use crate::support::{boxed, dim, extent, f32_param, known, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "quantize_q8";

/// Values that share a scale.
pub(crate) const GROUP: u32 = 32;
/// Values of a thread: 16 bytes.
const VALUES: u32 = 4;
/// Threads that share a group.
const SHARERS: u32 = GROUP / VALUES;
const THREADS: u32 = 128;
/// The launch limit of the y dimension of a grid.
const MAX_ROWS: usize = 65_535;

/// Quantises rows of activations to Q8Act, bit for bit as [`tensor_formats::quantize_row`] does.
///
/// [`tensor_formats::q8_act`] has the layout and the arithmetic. Parameters: `x` `[rows, cols]` f32, `y` `[rows, cols]`
/// Q8Act.
///
/// ```
/// use kernels::{Kernel, quantize::QuantizeQ8};
/// let kernel = QuantizeQ8::new(2, 1536)?;
/// assert_eq!(kernel.params()[1].bytes, 2 * 1536 * 40 / 32);
/// # Ok::<(), kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantizeQ8 {
    rows: u32,
    cols: u32,
    row_bytes: u32,
}

impl QuantizeQ8 {
    /// The kernel for `rows` rows of `cols` values.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a row is not whole groups of 32; [`KernelError::Unsupported`] for a dimension of 0,
    /// more than 65,535 rows or more than 2^48 bytes.
    pub fn new(rows: usize, cols: usize) -> Result<Self, KernelError> {
        let row_bytes = dim(FAMILY, "bytes of a row", ElementType::Q8Act.row_bytes(cols)?)?;
        if rows > MAX_ROWS {
            return Err(refuse(FAMILY, format!("rows is {rows}, the most is {MAX_ROWS}")));
        }
        let (rows, cols) = (dim(FAMILY, "rows", rows)?, dim(FAMILY, "cols", cols)?);
        extent(FAMILY, "x", &[rows, cols])?;
        Ok(Self { rows, cols, row_bytes })
    }

    /// What the kernel computes, to the bit.
    ///
    /// # Errors
    /// [`KernelError::Format`] if `x` does not have the length of its parameter.
    pub fn reference(&self, x: &[f32]) -> Result<Vec<u8>, KernelError> {
        let (cols, row_bytes) = (self.cols as usize, self.row_bytes as usize);
        let expected = self.rows as usize * cols;
        if x.len() != expected {
            let what = "values of x";
            return Err(tensor_formats::FormatError::Length { what, expected, actual: x.len() }.into());
        }
        let mut y = vec![0; self.rows as usize * row_bytes];
        for (x, y) in x.chunks(cols).zip(y.chunks_mut(row_bytes)) {
            quantize_row(ElementType::Q8Act, x, y)?;
        }
        Ok(y)
    }

    /// Threads that a row needs.
    const fn row_threads(&self) -> u32 {
        self.cols / VALUES
    }

    fn build(&self, k: &mut KernelBuilder, [x, y]: [Reg<U64>; 2]) {
        let (tid, block, row) = (k.tid_x(), k.ctaid_x(), k.ctaid_y());
        let index = k.mad::<U32>(block, THREADS, tid);
        let (index, inside) = if self.row_threads().is_multiple_of(THREADS) {
            (index, None)
        } else {
            k.comment("threads beyond the row repeat its end and store nothing: shuffles need them");
            let inside = k.lt::<U32>(index, self.row_threads());
            let last_group = self.row_threads() - SHARERS;
            let sharer = k.and::<U32>(index, SHARERS - 1);
            let repeated = k.add::<U32>(sharer, last_group);
            (k.selp::<U32>(inside, index, repeated), Some(inside))
        };
        let x = k.ptr_index(x, row, self.cols * 4);
        let x = k.ptr_index(x, index, VALUES * 4);
        let values = k.ld_global_v4::<F32>(x);

        let group = quantize_group(k, values);

        let y = k.ptr_index(y, row, self.row_bytes);
        let quants_at = k.ptr_index(y, index, VALUES);
        let group_index = k.shr::<U32>(index, SHARERS.ilog2());
        let scales_at = k.ptr_index(y, group_index, 8);
        let scales_at = k.add::<U64>(scales_at, u64::from(self.cols));
        let sharer = k.and::<U32>(index, SHARERS - 1);
        let first = k.eq::<U32>(sharer, 0u32);
        let first = match inside {
            Some(inside) => k.and_pred(first, inside),
            None => first,
        };
        let store = |k: &mut KernelBuilder| k.st_global::<B32>(quants_at, group.quants[0]);
        match inside {
            Some(inside) => k.guarded(inside, store),
            None => store(k),
        }
        let scaled_sum = group.scaled_sum(k);
        k.guarded(first, |k| k.st_global_v2::<B32>(scales_at, [group.scale, scaled_sum]));
    }
}

/// A group of 32 values as Q8, spread over lanes that hold equally many values each.
pub(crate) struct QuantizedGroup {
    /// The lane's quants, four a word.
    pub(crate) quants: Vec<Reg<B32>>,
    /// `d`, an f32, in every lane.
    pub(crate) scale: Reg<B32>,
    /// The scale before infinities and NaNs make it a NaN, and whether there are any.
    finite: Reg<F32>,
    broken: Pred,
    /// Lanes that share the group.
    sharers: u32,
}

impl QuantizedGroup {
    /// `d` times the sum of all quants, an f32, in every lane.
    pub(crate) fn scaled_sum(&self, k: &mut KernelBuilder) -> Reg<B32> {
        let none = k.imm::<S32>(0);
        let sum =
            self.quants.iter().fold(none, |sum, &quants| k.dp4a_ss::<B32, B32>(quants, 0x0101_0101u32, sum));
        let sum = over_group(k, sum, self.sharers, |k, a, b| k.add::<S32>(a, b));
        let sum = k.cvt::<F32>(sum);
        let scaled = k.mul::<F32>(self.finite, sum);
        or_nan(k, scaled, self.broken)
    }
}

/// The bits of `value`, or of a NaN.
pub(crate) fn or_nan(k: &mut KernelBuilder, value: Reg<F32>, broken: Pred) -> Reg<B32> {
    let bits = k.f32_to_bits(value);
    k.selp::<B32>(broken, 0x7fc0_0000u32, bits)
}

/// The bits of the largest magnitude of the group whose values this lane and its neighbours hold, and whether it is no finite
/// number.
pub(crate) fn largest_of_group<const N: usize>(
    k: &mut KernelBuilder,
    values: [Reg<F32>; N],
) -> (Reg<U32>, Pred) {
    k.comment(
        "the largest magnitude of the group, compared as bits: infinities and NaNs are above all numbers",
    );
    let mut magnitudes: Vec<Reg<U32>> = values
        .iter()
        .map(|&value| {
            let bits = k.f32_to_bits(value);
            k.and::<B32>(bits, 0x7fff_ffffu32).cast::<U32>()
        })
        .collect();
    while magnitudes.len() > 1 {
        magnitudes = magnitudes.chunks(2).map(|pair| k.max::<U32>(pair[0], pair[pair.len() - 1])).collect();
    }
    let largest = over_group(k, magnitudes[0], GROUP / N as u32, |k, a, b| k.max::<U32>(a, b));
    let broken = k.ge::<U32>(largest, f32::INFINITY.to_bits());
    (largest, broken)
}

/// Quantises the group whose values this lane and its neighbours hold, `N` each: a multiple of 4 that divides 32. Lane 0
/// of a warp begins a group.
pub(crate) fn quantize_group<const N: usize>(k: &mut KernelBuilder, values: [Reg<F32>; N]) -> QuantizedGroup {
    let sharers = GROUP / N as u32;
    let (largest, broken) = largest_of_group(k, values);
    let largest = k.bits_to_f32(largest);
    let scale = divide_by_127(k, largest);
    k.comment("subnormal scales flush to zero, and so does the group");
    let normal = k.ge::<F32>(scale, f32::MIN_POSITIVE);
    let valid = k.and_pred(normal, !broken);
    let inverse = k.rcp::<F32>(scale);
    let rounded = values.map(|value| {
        let scaled = k.mul::<F32>(value, inverse);
        // Neighbours are 1 apart here, so that the sum is rounded to an integer, half to even; it is the low byte.
        let rounded = k.add::<F32>(scaled, 12_582_912.0f32);
        k.f32_to_bits(rounded)
    });
    let mut quants = Vec::new();
    for [a, b, c, d] in rounded.as_chunks::<4>().0 {
        let (low, high) = (k.prmt::<B32>(*a, *b, 0x0040u32), k.prmt::<B32>(*c, *d, 0x0040u32));
        let packed = k.prmt::<B32>(low, high, 0x5410u32);
        quants.push(k.selp::<B32>(valid, packed, 0u32));
    }
    let finite = k.selp::<F32>(normal, scale, 0.0f32);
    let scale = or_nan(k, finite, broken);
    QuantizedGroup { quants, scale, finite, broken, sharers }
}

/// `a / 127`, correctly rounded where it is normal: a quotient by the correctly rounded reciprocal, and one correction
/// by its exact remainder (Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", 1990,
/// theorem 8).
fn divide_by_127(k: &mut KernelBuilder, a: Reg<F32>) -> Reg<F32> {
    let quotient = k.mul::<F32>(a, 127.0f32.recip());
    let minus = k.neg::<F32>(quotient);
    let remainder = k.fma::<F32>(minus, 127.0f32, a);
    k.fma::<F32>(remainder, 127.0f32.recip(), quotient)
}

/// Combines a value over the `sharers` threads of a group; all of them get the result.
fn over_group<T: ptx_builder::Lane>(
    k: &mut KernelBuilder,
    value: Reg<T>,
    sharers: u32,
    combine: impl Fn(&mut KernelBuilder, Reg<T>, Reg<T>) -> Reg<T>,
) -> Reg<T> {
    let distances = (0..sharers.ilog2()).rev().map(|bit| 1u32 << bit);
    distances.fold(value, |value, lanes| {
        let other = k.shfl_bfly::<T>(value, lanes);
        combine(k, value, other)
    })
}

impl Kernel for QuantizeQ8 {
    fn name(&self) -> String {
        format!("{FAMILY}_n{}_b{}", self.cols, self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let (rows, cols) = (u64::from(self.rows), u64::from(self.cols));
        let bytes = rows * u64::from(self.row_bytes);
        let y = Param { name: "y", access: Access::Write, element: ElementType::Q8Act, bytes, align: 8 };
        vec![f32_param("x", Access::Read, rows * cols, 16), y]
    }

    fn geometry(&self) -> LaunchGeometry {
        let blocks = self.row_threads().div_ceil(THREADS);
        LaunchGeometry { grid: [blocks, self.rows, 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let elements = u64::from(self.rows) * u64::from(self.cols);
        // Each value is compared, scaled, rounded and summed.
        Cost {
            bytes_read: elements * 4,
            bytes_written: u64::from(self.rows) * u64::from(self.row_bytes),
            operations: elements * 4,
        }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        crate::emit::module(self, target, |k, pointers| self.build(k, pointers))
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let small = [(1, 32), (3, 96), (2, 512)];
    let real = [1536, 8960, 2048, 8192, 4096, 14336].map(|cols| (1, cols));
    let batches = [(4, 4096), (8, 14336)];
    let shapes = small.into_iter().chain(real).chain(batches);
    shapes.map(|(rows, cols)| boxed(QuantizeQ8::new(rows, cols))).collect()
}

/// The conformance cases of this family: every byte is that of the reference.
pub(crate) fn cases() -> Vec<Case> {
    let case = |rows: usize, cols: usize, data: &str, x: &[f32]| {
        let kernel = known(QuantizeQ8::new(rows, cols));
        let y = known(kernel.reference(x));
        Case::new(kernel, data).with_f32("x", x).expect_bytes("y", y)
    };
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 32), (1, 96), (2, 512), (5, 544), (3, 1536), (8, 8960), (32, 160), (1, 14336)] {
        let mut random = Random::new((rows * cols) as u64);
        cases.push(case(rows, cols, "normal", &random.f32s(rows * cols)));
        // Any bits: NaNs, infinities and subnormals are rare enough that most groups stay numbers.
        let bits: Vec<f32> = (0..rows * cols).map(|_| f32::from_bits(random.bits() as u32)).collect();
        cases.push(case(rows, cols, "bits", &bits));
    }
    let groups = edge_groups();
    let x: Vec<f32> = groups.concat();
    cases.push(case(1, x.len(), "edges", &x));
    cases
}

/// Groups at the edges of what a scale can be.
fn edge_groups() -> Vec<[f32; GROUP as usize]> {
    let group = |largest: f32| std::array::from_fn(|i| largest * (1.0 - i as f32 / 16.0));
    let mut groups: Vec<[f32; GROUP as usize]> = vec![[0.0; 32], [-0.0; 32]];
    // Around the smallest normal scale; the smallest subnormal; sums that overflow; the largest values.
    let smallest = f32::MIN_POSITIVE * 127.0;
    for largest in
        [smallest, smallest.next_down(), smallest.next_up(), f32::from_bits(1), 1e37, f32::MAX, -f32::MAX]
    {
        groups.push(group(largest));
        groups.push([largest; 32]);
    }
    for broken in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
        let mut values = group(1.0);
        values[17] = broken;
        groups.push(values);
    }
    // Ties: quotients of exactly a half.
    groups.push(std::array::from_fn(|i| if i == 0 { 127.0 } else { i as f32 - 15.5 }));
    groups.push(std::array::from_fn(|i| if i == 0 { -254.0 } else { 2.0 * i as f32 - 33.0 }));
    groups
}
