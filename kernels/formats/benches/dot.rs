//! Weights per second of one core: matrix products of each type with f32 and Q8 activations, one row, eight and 64; and
//! the conversions around them; the layout for a device. `elements` in the report are weights (times activation rows).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tensor_formats::{
    ElementType, Matrix, Q8Rows, Simd, dequantize_row, has_dot_q8, matmul_f32, matmul_q8, quantize_q8,
    quantize_row, to_planes,
};

const COLS: usize = 2048;
/// Small enough for the second-level cache in every type but F32.
const ROWS: usize = 64;

/// Weights that look normal: a sum of uniform numbers from a small generator.
fn normals(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| uniform() + uniform() + uniform()).collect()
}

fn quantized(ty: ElementType, values: &[f32], cols: usize) -> Vec<u8> {
    let mut bytes = vec![0; ty.matrix_bytes(values.len() / cols, cols).unwrap()];
    let row_bytes = ty.row_bytes(cols).unwrap();
    for (row, bytes) in values.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes)) {
        quantize_row(ty, row, bytes).unwrap();
    }
    bytes
}

fn products(c: &mut Criterion) {
    let values = normals(ROWS * COLS);
    for n in [1, 8, 64] {
        let x = normals(n * COLS);
        let act = quantized(ElementType::Q8Act, &x, COLS);
        let acts = Q8Rows::new(COLS, &act).unwrap();
        let mut out = vec![0.0; ROWS * n];
        for simd in Simd::available() {
            let mut group = c.benchmark_group(format!("matmul n={n} {simd}"));
            group.throughput(Throughput::Elements((ROWS * COLS * n) as u64));
            for ty in ElementType::WEIGHTS {
                let bytes = quantized(ty, &values, COLS);
                let weights = Matrix::new(ty, COLS, &bytes).unwrap();
                group.bench_function(BenchmarkId::new("f32", ty), |b| {
                    b.iter(|| matmul_f32(simd, black_box(weights), black_box(&x), &mut out).unwrap());
                });
                if has_dot_q8(ty) {
                    group.bench_function(BenchmarkId::new("q8", ty), |b| {
                        b.iter(|| matmul_q8(simd, black_box(weights), black_box(acts), &mut out).unwrap());
                    });
                }
            }
        }
    }
}

fn conversions(c: &mut Criterion) {
    let mut values = normals(COLS);
    let mut group = c.benchmark_group("convert");
    group.throughput(Throughput::Elements(COLS as u64));
    for simd in Simd::available() {
        let mut bytes = vec![0; ElementType::Q8Act.row_bytes(COLS).unwrap()];
        group.bench_function(BenchmarkId::new("quantise Q8Act", simd), |b| {
            b.iter(|| quantize_q8(simd, black_box(&values), &mut bytes).unwrap());
        });
    }
    for ty in ElementType::WEIGHTS.into_iter().filter(|ty| ty.is_quantised()) {
        let mut bytes = quantized(ty, &values, COLS);
        group.bench_function(BenchmarkId::new("quantise", ty), |b| {
            b.iter(|| quantize_row(ty, black_box(&values), &mut bytes).unwrap());
        });
        group.bench_function(BenchmarkId::new("dequantise", ty), |b| {
            b.iter(|| dequantize_row(ty, black_box(&bytes), &mut values).unwrap());
        });
    }
}

/// Reordering for a device, beyond the caches: `bytes` in the report are those of the matrix.
fn planes(c: &mut Criterion) {
    let mut group = c.benchmark_group("planes");
    for ty in ElementType::WEIGHTS {
        let (rows, cols) = (8192, COLS);
        let gguf = vec![0x5a; ty.matrix_bytes(rows, cols).unwrap()];
        let mut out = vec![0; gguf.len()];
        group.throughput(Throughput::Bytes(gguf.len() as u64));
        group.bench_function(BenchmarkId::new("to", ty), |b| {
            b.iter(|| to_planes(ty, rows, cols, black_box(&gguf), &mut out).unwrap());
        });
    }
}

criterion_group!(benches, products, conversions, planes);
criterion_main!(benches);
