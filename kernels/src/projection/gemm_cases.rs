//! The conformance cases of many rows.

use tensor_formats::ElementType;

use super::cases::{Data, EPS, HALVES, QUANTISED, expect_cached, small_attention, weights, with_weights};
use super::{AttentionInputShape, Gemm, HalfRows, Met, Way};
use crate::CacheShape;
use crate::cases::{Case, Expect, F32_BOUND};
use crate::random::Random;
use crate::rope::RopeStyle;
use crate::stored::Stored;
use crate::support::known;

/// The relative error where weights are rounded to f16, and so are their scales and offsets.
const WEIGHT_BOUND: f64 = 2e-3;

/// Rows as halves, and what multiplies them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // A row for each thread's step; two steps for some; more than are held.
    for (seed, (rows, cols, normed)) in (0u64..).zip([
        (3, 128, true),
        (17, 384, false),
        (9, 4224, true),
        (130, 256, false),
        (2, 16_512, true),
    ]) {
        let mut random = Random::new(seed + 700);
        let (mut x, norm) = (random.f32s(rows * cols), random.f32s(cols));
        // Rows of large and of small values, of nothing, and of what is no number.
        for (row, x) in x.chunks_mut(cols).enumerate() {
            match row % 8 {
                1 => x.iter_mut().for_each(|v| *v *= if normed { 1e15 } else { 1e30 }),
                2 => x.iter_mut().for_each(|v| *v *= 1e-30),
                3 => x.fill(0.0),
                4 => x[cols / 2] = f32::INFINITY,
                5 => x[cols - 1] = f32::NAN,
                6 => x[cols / 3] = 3e4,
                _ => {}
            }
        }
        let element = HALVES[usize::from(cols == 384 || cols == 128)];
        let kernel = known(HalfRows::new(rows, cols, normed.then_some(EPS))).of_weights(element);
        let norm = normed.then_some(norm);
        let (halves, factors) = known(kernel.reference(&x, norm.as_deref()));
        let case = Case::new(kernel, "").with_f32("x", &x);
        let case = match &norm {
            Some(norm) => case.with_f32("norm", norm),
            None => case,
        };
        let halves = halves.into_iter().map(f64::from).collect();
        let near = |element, values, cols, bound| Expect::Near { element, values, cols, bound };
        // Halves are exact, if there are no NaNs, and those have many bits to choose.
        let case = case.expect("y", 0, near(element, halves, cols, 0.0));
        cases.push(case.expect("factors", 0, near(ElementType::F32, factors, 1, F32_BOUND)));
    }
    // Rows, columns, batch, warps, parts and blocks that share columns: blocks of one tile and of several; batches of a block
    // and of two; turns that begin in the middle of what is copied; columns that are shared evenly and unevenly.
    let shapes = [
        (16, 256, 9, (4, 1, 1)),
        (32, 512, 1, (8, 2, 1)),
        (144, 768, 16, (16, 1, 2)),
        (48, 1024, 40, (8, 1, 4)),
        (272, 256, 129, (12, 1, 1)),
        (32, 3840, 17, (8, 2, 2)),
        (208, 512, 27, (12, 1, 2)),
        (80, 512, 150, (4, 1, 1)),
        (96, 768, 10, (16, 2, 1)),
        (64, 2304, 24, (16, 4, 1)),
    ];
    for (seed, (rows, cols, batch, (warps, parts, cluster))) in (0..).zip(shapes) {
        let way = Way { warps, parts, cluster };
        for element in QUANTISED.into_iter().chain(HALVES) {
            let data = Data::new(element, rows, cols, batch, seed + 40);
            cases.push(data.gemm_residual(batch % 2 == 1, way));
            cases.push(data.gemm_gated(way));
        }
    }
    for element in [ElementType::Q6_K, ElementType::BF16] {
        cases.push(Data::new(element, 80, 512, 11, 51).gemm_head());
    }
    cases.push(
        Data::new(ElementType::Q8_0, 32, 384, 10, 50)
            .gemm_residual(true, Way { warps: 4, parts: 1, cluster: 1 }),
    );
    for style in [RopeStyle::Interleaved, RopeStyle::NeoX] {
        for (bias, batch) in [(true, 9), (false, 140)] {
            cases.push(gemm_attention(small_attention(style, bias, batch)));
        }
        for element in HALVES {
            let shape = small_attention(style, true, 21);
            cases.push(gemm_attention(AttentionInputShape { elements: [element; 3], ..shape }));
        }
        let shape = small_attention(style, true, 12);
        for element in [ElementType::F16, ElementType::BF16, ElementType::F8E4M3] {
            let cache = CacheShape { element, ..shape.cache };
            cases.push(gemm_attention(AttentionInputShape { cache, ..shape }));
        }
    }
    cases
}

impl Data {
    fn gemm_residual(&self, bias: bool, way: Way) -> Case {
        let batch = self.x.len() / self.cols;
        let kernel = Gemm::residual_projection(self.element, (self.rows, self.cols), batch, bias);
        let kernel = known(kernel.and_then(|kernel| kernel.with(way)));
        let (x, bytes, factors, rounded) = halves(self.element, &self.x, self.cols, None);
        let biases: &[&[f32]] = if bias { &[&self.bias] } else { &[] };
        let met = Met { matrices: &[&self.w[0]], biases, residual: &self.residual, ..Met::default() };
        let y = known(kernel.reference(&x, &factors, &met)).swap_remove(0);
        let case = Case::new(kernel, "").with_bytes("x", &bytes).with_f32("factors", &rounded);
        let case = case.with_bytes("w", &self.planes(0)).with_f32("residual", &self.residual);
        let case = if bias { case.with_f32("bias", &self.bias).with_alias("y", "residual") } else { case };
        case.expect_f32("y", y, self.rows, WEIGHT_BOUND)
    }

    fn gemm_head(&self) -> Case {
        let kernel = known(Gemm::head(self.element, (self.rows, self.cols), self.x.len() / self.cols));
        let (x, bytes, factors, rounded) = halves(self.element, &self.x, self.cols, Some(&self.norm));
        let met = Met { matrices: &[&self.w[0]], ..Met::default() };
        let y = known(kernel.reference(&x, &factors, &met)).swap_remove(0);
        let case = Case::new(kernel, "").with_bytes("x", &bytes).with_f32("factors", &rounded);
        case.with_bytes("w", &self.planes(0)).expect_f32("y", y, self.rows, WEIGHT_BOUND)
    }

    fn gemm_gated(&self, way: Way) -> Case {
        let batch = self.x.len() / self.cols;
        let kernel = Gemm::gated_projection(self.element, (self.rows, self.cols), batch);
        let kernel = known(kernel.and_then(|kernel| kernel.with(way)));
        // Of large gates nothing is left but the sign.
        let norm: Vec<f32> = self.norm.iter().map(|norm| norm / 1024.0).collect();
        let (x, bytes, factors, rounded) = halves(self.element, &self.x, self.cols, Some(&norm));
        let met = Met { matrices: &[&self.w[0], &self.w[1]], ..Met::default() };
        let y = known(kernel.reference(&x, &factors, &met)).swap_remove(0);
        Case::new(kernel, "")
            .with_bytes("x", &bytes)
            .with_f32("factors", &rounded)
            .with_bytes("gate", &self.planes(0))
            .with_bytes("up", &self.planes(1))
            .expect_f32("y", y, self.rows, WEIGHT_BOUND)
    }
}

/// Activations as halves for weights of type `element`, with their factors: their values, their bytes, and the factors in f64 and
/// as they are.
fn halves(
    element: ElementType,
    x: &[f32],
    cols: usize,
    norm: Option<&[f32]>,
) -> (Vec<f32>, Vec<u8>, Vec<f64>, Vec<f32>) {
    let kernel = known(HalfRows::new(x.len() / cols, cols, norm.map(|_| EPS))).of_weights(element);
    let (halves, factors) = known(kernel.reference(x, norm));
    let rounded: Vec<f32> = factors.iter().map(|&factor| factor as f32).collect();
    let bytes = known(Stored::new("half_rows", kernel.element())).encode(&halves);
    (halves, bytes, factors, rounded)
}

/// A case of many rows, at positions of all sequences, and outside of them.
fn gemm_attention(shape: AttentionInputShape) -> Case {
    let AttentionInputShape { batch, cols, n_heads, bias, table_positions, elements, cache, .. } = shape;
    let kernel = known(Gemm::attention_input(shape));
    let mut random = Random::new(batch as u64);
    let heads = [n_heads, cache.n_kv_heads, cache.n_kv_heads];
    let features = heads.map(|heads| heads * cache.head_dim);
    let gguf = [0, 1, 2].map(|i| weights(elements[i], features[i], cols, &mut random));
    let biases = features.map(|features| random.f32s(features));
    let (norm, x) = (random.f32s(cols), random.f32s(batch * cols));
    let table = random.f32s(table_positions * cache.head_dim);
    let cached = cache.n_sequences * cache.n_kv_heads * cache.max_seq * cache.head_dim;
    let caches = [0, 1].map(|_| random.f32s(cached));
    let stored = known(Stored::new("attention_input", cache.element));
    // No two rows at one position.
    let places = cache.n_sequences * cache.max_seq;
    let outside = (cache.max_seq as u32, 0);
    let place = |row: usize| match row {
        0 => outside,
        row if row <= places => ((row - 1) as u32 % cache.max_seq as u32, ((row - 1) / cache.max_seq) as u32),
        row => (row as u32, cache.n_sequences as u32),
    };
    let (positions, sequences): (Vec<u32>, Vec<u32>) = (0..batch).map(place).unzip();
    let (halves, bytes, factors, rounded) = halves(elements[0], &x, cols, Some(&norm));
    let matrices = [0, 1, 2].map(|i| gguf[i].as_slice());
    let given: Vec<&[f32]> = if bias { biases.iter().map(Vec::as_slice).collect() } else { Vec::new() };
    let met =
        Met { matrices: &matrices, biases: &given, positions: &positions, table: &table, residual: &[] };
    let results = known(kernel.reference(&halves, &factors, &met));
    let mut results = results.into_iter();
    let [q, keys, values] = std::array::from_fn(|_| results.next().unwrap_or_default());
    let case = Case::new(kernel, "")
        .with_bytes("x", &bytes)
        .with_f32("factors", &rounded)
        .with_u32("positions", &positions)
        .with_u32("sequences", &sequences)
        .with_f32("table", &table)
        .with_bytes("k_cache", &stored.encode(&caches[0]))
        .with_bytes("v_cache", &stored.encode(&caches[1]));
    let case = with_weights(case, shape, &gguf, &biases);
    let case = expect_cached(case, shape, (&positions, &sequences), WEIGHT_BOUND, [keys, values]);
    case.expect_f32("q", q, features[0], WEIGHT_BOUND)
}
