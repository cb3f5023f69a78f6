//! What tools iterate over, and the conformance cases.

use std::ops::Range;

use tensor_formats::{ElementType, dequantize_row, quantize_row, to_planes};

use super::replay::Replay;
use super::{Gemv, GemvQ8};
use crate::cases::{Case, F32_BOUND, Invariance};
use crate::random::Random;
use crate::support::{boxed, known};
use crate::{Kernel, KernelError};

/// Output and input features of the projections of qwen2.5-1.5b, llama-3.2-1b and llama-3.1-8b: query and output, key
/// and value, gate and up, down; then vocabulary heads.
const PROJECTIONS: [(usize, usize); 12] = [
    (1536, 1536),
    (256, 1536),
    (8960, 1536),
    (1536, 8960),
    (2048, 2048),
    (512, 2048),
    (8192, 2048),
    (2048, 8192),
    (4096, 4096),
    (1024, 4096),
    (14336, 4096),
    (4096, 14336),
];
const HEADS: [(usize, usize); 3] = [(151_936, 1536), (128_256, 2048), (128_256, 4096)];

const QUANTISED: [ElementType; 5] =
    [ElementType::Q4_0, ElementType::Q8_0, ElementType::Q4_K, ElementType::Q5_K, ElementType::Q6_K];

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let mut kernels: Vec<Box<dyn Kernel>> = Vec::new();
    let mut add = |element: ElementType, (rows, cols): (usize, usize), batch: usize| {
        kernels.push(boxed(Gemv::new(element, rows, cols, batch)));
        if QUANTISED.contains(&element) {
            kernels.push(boxed(GemvQ8::new(element, rows, cols, batch)));
        }
    };
    for element in ElementType::WEIGHTS {
        for batch in [1, 2, 5, 8] {
            add(element, (64, 256), batch);
        }
    }
    add(ElementType::F32, (9, 37), 3);
    add(ElementType::F16, (9, 38), 3);
    add(ElementType::Q8_0, (9, 96), 3);
    for element in [ElementType::Q4_K, ElementType::Q8_0, ElementType::F16] {
        PROJECTIONS.into_iter().chain(HEADS).for_each(|shape| add(element, shape, 1));
    }
    // Q4_K_M files keep value and down projections and the head in Q6_K.
    for shape in [(256, 1536), (1536, 8960), (512, 2048), (2048, 8192), (1024, 4096), (4096, 14336)] {
        add(ElementType::Q6_K, shape, 1);
    }
    HEADS.into_iter().for_each(|shape| add(ElementType::Q6_K, shape, 1));
    for element in QUANTISED {
        for batch in [2, 4, 8] {
            add(element, (14336, 4096), batch);
        }
    }
    kernels
}

/// The shapes of the cases: output features, input features, batch.
const SHAPES: &[(ElementType, usize, usize, usize)] = &[
    // Rows that allow no vectors, or short ones; fewer columns than threads.
    (ElementType::F32, 3, 1, 1),
    (ElementType::F32, 7, 37, 2),
    (ElementType::F32, 33, 258, 5),
    (ElementType::F32, 130, 1024, 8),
    (ElementType::F16, 5, 257, 2),
    (ElementType::F16, 9, 258, 1),
    (ElementType::F16, 33, 260, 5),
    (ElementType::F16, 130, 1024, 8),
    (ElementType::BF16, 5, 257, 1),
    (ElementType::BF16, 33, 264, 8),
    (ElementType::BF16, 64, 1536, 5),
    // One block; odd numbers of blocks; several warps for a row; rows that do not fill a block.
    (ElementType::Q8_0, 1, 32, 1),
    (ElementType::Q8_0, 37, 96, 5),
    (ElementType::Q8_0, 64, 1536, 2),
    (ElementType::Q8_0, 5, 8960, 8),
    (ElementType::Q4_0, 1, 32, 1),
    (ElementType::Q4_0, 37, 96, 5),
    (ElementType::Q4_0, 64, 1536, 2),
    (ElementType::Q4_0, 5, 8960, 8),
    (ElementType::Q4_K, 1, 256, 1),
    (ElementType::Q4_K, 37, 768, 5),
    (ElementType::Q4_K, 256, 1536, 2),
    (ElementType::Q4_K, 5, 8960, 8),
    (ElementType::Q5_K, 1, 256, 1),
    (ElementType::Q5_K, 37, 768, 5),
    (ElementType::Q5_K, 256, 1536, 2),
    (ElementType::Q5_K, 5, 8960, 8),
    (ElementType::Q6_K, 1, 256, 1),
    (ElementType::Q6_K, 37, 768, 5),
    (ElementType::Q6_K, 256, 1536, 2),
    (ElementType::Q6_K, 5, 8960, 8),
    // Rows so long that a thread loops over its parts, then takes what is left.
    (ElementType::F32, 4, 9300, 2),
    (ElementType::F16, 3, 16640, 2),
    (ElementType::Q8_0, 3, 33184, 2),
    (ElementType::Q4_K, 3, 66048, 2),
    (ElementType::Q6_K, 3, 66048, 2),
    // So many rows that a thread takes two, or four.
    (ElementType::F16, 16386, 64, 1),
    (ElementType::Q8_0, 16386, 32, 1),
    (ElementType::Q8_0, 32772, 32, 3),
    (ElementType::Q4_K, 16386, 256, 2),
    (ElementType::Q6_K, 16388, 256, 3),
    // And several warps for a row too, in blocks with several rows; most of the last ones are not full.
    (ElementType::F32, 1061, 260, 1),
    (ElementType::F16, 1061, 520, 1),
    (ElementType::BF16, 1061, 520, 1),
    (ElementType::Q8_0, 1061, 256, 1),
    (ElementType::Q4_K, 2112, 2048, 2),
    (ElementType::Q6_K, 1061, 1024, 1),
    // The same with one row in a block.
    (ElementType::Q8_0, 1028, 2048, 3),
];

/// The conformance cases of this family: near the f64 reference, and to the bit what [`Replay`] says.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seed, &(element, rows, cols, batch)) in (0..).zip(SHAPES) {
        let data = Data::new(element, rows, cols, batch, seed);
        cases.push(data.case_f32(0..batch));
        cases.extend(QUANTISED.contains(&element).then(|| data.case_q8(0..batch)));
    }
    cases
}

/// Batches against their first and last rows alone.
pub(crate) fn invariances() -> Vec<Invariance> {
    let mut invariances = Vec::new();
    let mut add = |rows: usize, batch: usize, row: usize, left: Case, right: Case| {
        let left_bytes = row * rows * 4..(row + 1) * rows * 4;
        let name = format!("{}/row{row}_of_{batch}_alone", left.kernel.name());
        invariances.push(Invariance { name, left, right, param: "y", left_bytes, right_bytes: 0..rows * 4 });
    };
    let every = ElementType::WEIGHTS.into_iter();
    let shapes = every.flat_map(|element| [(element, 37, 768, 5), (element, 10, 8960, 8)]);
    // With the batch, the number of rows that a thread takes changes.
    for (element, rows, cols, batch) in shapes.chain([(ElementType::Q8_0, 32772, 32, 3)]) {
        let data = Data::new(element, rows, cols, batch, batch as u64);
        for row in [0, batch - 1] {
            add(rows, batch, row, data.case_f32(0..batch), data.case_f32(row..row + 1));
            if QUANTISED.contains(&element) {
                add(rows, batch, row, data.case_q8(0..batch), data.case_q8(row..row + 1));
            }
        }
    }
    invariances
}

/// A matrix and activations for it.
struct Data {
    element: ElementType,
    rows: usize,
    cols: usize,
    /// In GGUF's layout.
    w: Vec<u8>,
    /// In the device's layout.
    planes: Vec<u8>,
    /// `w` dequantised.
    values: Vec<f32>,
    x: Vec<f32>,
}

impl Data {
    fn new(element: ElementType, rows: usize, cols: usize, batch: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let row_bytes = known(element.row_bytes(cols).map_err(KernelError::from));
        let w = weight_bytes(element, rows * row_bytes, &mut random);
        let mut values = vec![0.0; rows * cols];
        for (row, values) in w.chunks(row_bytes).zip(values.chunks_mut(cols)) {
            known(dequantize_row(element, row, values).map_err(KernelError::from));
        }
        let mut planes = vec![0; w.len()];
        known(to_planes(element, rows, cols, &w, &mut planes).map_err(KernelError::from));
        Self { element, rows, cols, w, planes, values, x: random.f32s(batch * cols) }
    }

    /// The case for these rows of the batch.
    fn case_f32(&self, batch: Range<usize>) -> Case {
        let kernel = known(Gemv::new(self.element, self.rows, self.cols, batch.len()));
        let x = &self.x[batch.start * self.cols..batch.end * self.cols];
        let replay = Replay::new(&kernel.0);
        let weights = || self.values.chunks(self.cols);
        let bits: Vec<f32> =
            x.chunks(self.cols).flat_map(|x| weights().map(|w| replay.row_f32(w, x))).collect();
        let y = known(kernel.reference(&self.w, x));
        let case = Case::new(kernel, "").with_bytes("w", &self.planes).with_f32("x", x);
        case.expect_f32("y", y, self.rows, F32_BOUND).expect_f32_bits("y", &bits)
    }

    /// The case for these rows of the batch, quantised.
    fn case_q8(&self, batch: Range<usize>) -> Case {
        let kernel = known(GemvQ8::new(self.element, self.rows, self.cols, batch.len()));
        let row_bytes = known(ElementType::Q8Act.row_bytes(self.cols).map_err(KernelError::from));
        let mut x = vec![0; batch.len() * row_bytes];
        let rows = self.x[batch.start * self.cols..batch.end * self.cols].chunks(self.cols);
        for (values, x) in rows.zip(x.chunks_mut(row_bytes)) {
            known(quantize_row(ElementType::Q8Act, values, x).map_err(KernelError::from));
        }
        let replay = Replay::new(&kernel.0);
        let weights = || self.w.chunks(kernel.0.row_bytes as usize);
        let bits: Vec<f32> =
            x.chunks(row_bytes).flat_map(|x| weights().map(|w| replay.row_q8(w, x))).collect();
        let y = known(kernel.reference(&self.w, &x));
        let case = Case::new(kernel, "").with_bytes("w", &self.planes).with_bytes("x", &x);
        case.expect_f32("y", y, self.rows, F32_BOUND).expect_f32_bits("y", &bits)
    }
}

/// Random bytes that are valid blocks: the f16 scales, or the values themselves, are finite.
fn weight_bytes(element: ElementType, bytes: usize, random: &mut Random) -> Vec<u8> {
    if element == ElementType::F32 {
        return random.f32s(bytes / 4).iter().flat_map(|v| v.to_le_bytes()).collect();
    }
    if element == ElementType::BF16 {
        // Of random exponents of eight bits one is so large that the other values add nothing.
        let upper = |v: &f32| ((v.to_bits() >> 16) as u16).to_le_bytes();
        return random.f32s(bytes / 2).iter().flat_map(upper).collect();
    }
    let mut rows = random.bytes(bytes);
    let halves: &[usize] = match element {
        ElementType::Q4_K | ElementType::Q5_K => &[0, 2],
        ElementType::Q6_K => &[208],
        _ => &[0],
    };
    for block in rows.chunks_mut(element.block_bytes()) {
        // Without its highest exponent bit an f16 is below 2 in magnitude.
        halves.iter().for_each(|half| block[half + 1] &= 0xbf);
    }
    rows
}
