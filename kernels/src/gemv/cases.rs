//! What tools iterate over, and the conformance cases.

use tensor_formats::{ElementType, dequantize_row, quantize_row};

use super::replay::Replay;
use super::{Gemv, GemvQ8};
use crate::cases::{Case, F32_BOUND};
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

const QUANTISED: [ElementType; 3] = [ElementType::Q8_0, ElementType::Q4_K, ElementType::Q6_K];

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
    (ElementType::Q4_K, 1, 256, 1),
    (ElementType::Q4_K, 37, 768, 5),
    (ElementType::Q4_K, 256, 1536, 2),
    (ElementType::Q4_K, 5, 8960, 8),
    (ElementType::Q6_K, 1, 256, 1),
    (ElementType::Q6_K, 37, 768, 5),
    (ElementType::Q6_K, 256, 1536, 2),
    (ElementType::Q6_K, 5, 8960, 8),
    // So many rows that a thread takes two, or four.
    (ElementType::F16, 8192, 256, 1),
    (ElementType::Q8_0, 16386, 256, 1),
    (ElementType::Q4_K, 16386, 256, 2),
    (ElementType::Q4_K, 32772, 256, 3),
    (ElementType::Q6_K, 8194, 256, 2),
    (ElementType::Q6_K, 16388, 256, 5),
];

/// The conformance cases of this family: near the f64 reference, and to the bit what [`Replay`] says. Where the batch is
/// 5, its rows follow one by one.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, &(element, rows, cols, batch)) in SHAPES.iter().enumerate() {
        let mut random = Random::new(index as u64);
        let row_bytes = known(element.row_bytes(cols).map_err(KernelError::from));
        let w = weight_bytes(element, rows * row_bytes, &mut random);
        let x = random.f32s(batch * cols);
        let singles = if batch == 5 { 5 } else { 0 };
        let alone = (0..singles).map(|b| (&x[b * cols..][..cols], format!("row{b}_of_{batch}")));
        for (x, data) in std::iter::once((&x[..], String::new())).chain(alone) {
            let batch = x.len() / cols;
            cases.push(case_f32(known(Gemv::new(element, rows, cols, batch)), &w, x, &data));
            if QUANTISED.contains(&element) {
                cases.push(case_q8(known(GemvQ8::new(element, rows, cols, batch)), &w, x, &data));
            }
        }
    }
    cases
}

fn case_f32(kernel: Gemv, w: &[u8], x: &[f32], data: &str) -> Case {
    let (rows, cols) = (kernel.0.rows as usize, kernel.0.cols as usize);
    let mut values = vec![0.0; rows * cols];
    for (row, values) in w.chunks(kernel.0.row_bytes as usize).zip(values.chunks_mut(cols)) {
        known(dequantize_row(kernel.0.element, row, values).map_err(KernelError::from));
    }
    let replay = Replay::new(&kernel.0);
    let bits: Vec<f32> =
        x.chunks(cols).flat_map(|x| values.chunks(cols).map(|w| replay.row_f32(w, x))).collect();
    let y = known(kernel.reference(w, x));
    let case = Case::new(kernel, data).with_bytes("w", w).with_f32("x", x);
    case.expect_f32("y", y, rows, F32_BOUND).expect_f32_bits("y", &bits)
}

fn case_q8(kernel: GemvQ8, w: &[u8], x: &[f32], data: &str) -> Case {
    let (rows, cols) = (kernel.0.rows as usize, kernel.0.cols as usize);
    let row_bytes = known(ElementType::Q8Act.row_bytes(cols).map_err(KernelError::from));
    let mut quantised = vec![0; x.len() / cols * row_bytes];
    for (x, quantised) in x.chunks(cols).zip(quantised.chunks_mut(row_bytes)) {
        known(quantize_row(ElementType::Q8Act, x, quantised).map_err(KernelError::from));
    }
    let replay = Replay::new(&kernel.0);
    let w_rows = || w.chunks(kernel.0.row_bytes as usize);
    let bits: Vec<f32> =
        quantised.chunks(row_bytes).flat_map(|x| w_rows().map(|w| replay.row_q8(w, x))).collect();
    let y = known(kernel.reference(w, &quantised));
    let case = Case::new(kernel, data).with_bytes("w", w).with_bytes("x", &quantised);
    case.expect_f32("y", y, rows, F32_BOUND).expect_f32_bits("y", &bits)
}

/// Random bytes that are valid blocks: the f16 scales, or the values themselves, are finite.
fn weight_bytes(element: ElementType, bytes: usize, random: &mut Random) -> Vec<u8> {
    if element == ElementType::F32 {
        return random.f32s(bytes / 4).iter().flat_map(|v| v.to_le_bytes()).collect();
    }
    let mut rows = random.bytes(bytes);
    let halves: &[usize] = match element {
        ElementType::Q4_K => &[0, 2],
        ElementType::Q6_K => &[208],
        _ => &[0],
    };
    for block in rows.chunks_mut(element.block_bytes()) {
        // Without its highest exponent bit an f16 or bf16 is below 2 in magnitude.
        halves.iter().for_each(|half| block[half + 1] &= 0xbf);
    }
    rows
}
