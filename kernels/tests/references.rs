//! Properties of the references, which everything else is compared with.

use kernels::argmax::Argmax;
use kernels::attention::{Attention, AttentionInputs};
use kernels::elementwise::{Elementwise, ElementwiseOp};
use kernels::embed::EmbedRows;
use kernels::gemv::GemvQ8;
use kernels::kv_scatter::KvScatter;
use kernels::projection::{self, AttentionInput, AttentionInputShape, Gemm, ResidualProjection};
use kernels::random::Random;
use kernels::rms_norm::RmsNorm;
use kernels::rope::{Rope, RopeShape, RopeStyle};
use kernels::soft_max::SoftMax;
use kernels::{CacheShape, KernelError, Target};
use proptest::prelude::*;
use tensor_formats::ElementType;

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_normalised_row_has_unit_mean_square(rows in 1usize..4, n in 1usize..300, seed: u64) {
        let kernel = RmsNorm::new(rows, n, 0.0)?;
        let y = kernel.reference(&Random::new(seed).f32s(rows * n), &vec![1.0; n]);
        for row in y.chunks(n) {
            prop_assert!(near(norm(row), (n as f64).sqrt()));
        }
    }

    #[test]
    fn soft_max_sums_to_one_and_keeps_order(n in 1usize..200, scale in 0.01f32..4.0, seed: u64) {
        let x = Random::new(seed).f32s(n);
        let y = SoftMax::new(1, n, scale)?.reference(&x);
        prop_assert!(near(y.iter().sum(), 1.0));
        for i in 1..n {
            prop_assert_eq!(x[i - 1] < x[i], y[i - 1] < y[i]);
        }
    }

    #[test]
    fn argmax_is_the_first_of_the_largest(rows in 1usize..4, n in 1usize..50, seed: u64) {
        let mut random = Random::new(seed);
        let x: Vec<f32> = (0..rows * n)
            .map(|_| match random.below(8) { 0 => f32::NAN, v => v as f32 })
            .collect();
        for (row, at) in x.chunks(n).zip(Argmax::new(rows, n)?.reference(&x)) {
            if row.iter().all(|v| v.is_nan()) {
                prop_assert_eq!(at, u32::MAX);
            } else {
                let at = at as usize;
                prop_assert!(row.iter().all(|&v| v.is_nan() || v <= row[at]));
                prop_assert!(row[..at].iter().all(|&v| v.is_nan() || v < row[at]));
            }
        }
    }

    #[test]
    fn swiglu_is_silu_times_up(n in 1usize..50, seed: u64) {
        let mut random = Random::new(seed);
        let (gate, up) = (random.f32s(n), random.f32s(n));
        let fused = Elementwise::new(ElementwiseOp::SwiGlu, 1, n)?.reference(&gate, &up);
        let silu = Elementwise::new(ElementwiseOp::Silu, 1, n)?.reference(&gate, &[]);
        for i in 0..n {
            prop_assert!(near(fused[i], silu[i] * f64::from(up[i])));
            // x sigmoid(x) - (-x) sigmoid(-x) = x (sigmoid(x) + sigmoid(-x)) = x
            let negated = Elementwise::new(ElementwiseOp::Silu, 1, 1)?.reference(&[-gate[i]], &[]);
            prop_assert!(near(silu[i] - negated[0], gate[i].into()));
        }
    }

    #[test]
    fn rotations_keep_the_norm_and_the_rest(
        heads in 1usize..4, pairs in 1usize..40, rest in 0usize..5, neox: bool, seed: u64,
    ) {
        let style = if neox { RopeStyle::NeoX } else { RopeStyle::Interleaved };
        let (n_rot, head_dim) = (2 * pairs, 2 * pairs + rest);
        let kernel = Rope::new(style, RopeShape { rows: 1, heads, head_dim, n_rot, max_seq: 3 })?;
        let mut random = Random::new(seed);
        let x = random.f32s(heads * head_dim);
        let table: Vec<f32> = (0..3 * pairs).flat_map(|_| { let a = random.normal(); [a.cos(), a.sin()] }).collect();
        let y = kernel.reference(&x, &[2], &table);
        for (x, y) in x.chunks(head_dim).zip(y.chunks(head_dim)) {
            let x: Vec<f64> = x.iter().map(|&v| v.into()).collect();
            prop_assert!((norm(&x) - norm(y)).abs() < 1e-5 * norm(&x));
            prop_assert_eq!(&x[n_rot..], &y[n_rot..]);
            let a = if neox { (0, pairs) } else { (0, 1) };
            let (cos, sin) = (f64::from(table[4 * pairs]), f64::from(table[4 * pairs + 1]));
            prop_assert!(near(y[a.0], x[a.0] * cos - x[a.1] * sin));
            prop_assert!(near(y[a.1], x[a.0] * sin + x[a.1] * cos));
        }
    }

    #[test]
    fn what_was_scattered_is_attended_to(
        group in 1usize..4, n_kv_heads in 1usize..4, quarter in 1usize..20, length in 1usize..9, seed: u64,
    ) {
        let cache = CacheShape { n_sequences: 2, n_kv_heads, max_seq: 8, head_dim: 4 * quarter, element: ElementType::F32 };
        let (width, n_heads) = (n_kv_heads * cache.head_dim, group * n_kv_heads);
        let mut random = Random::new(seed);
        let (keys, values) = (random.f32s(length * width), random.f32s(length * width));
        let mut k_cache = vec![f32::NAN; 2 * 8 * width];
        let mut v_cache = k_cache.clone();
        let (positions, sequences): (Vec<u32>, Vec<u32>) = (0..length as u32).map(|p| (p, 1)).unzip();
        let scatter = KvScatter::new(cache, length)?;
        scatter.reference(&mut k_cache, &keys, &positions, &sequences);
        scatter.reference(&mut v_cache, &values, &positions, &sequences);

        let q = random.f32s(n_heads * cache.head_dim);
        let kernel = Attention::new(cache, 1, n_heads, 0.3)?;
        let y = kernel.reference(AttentionInputs {
            q: &q,
            k_cache: &k_cache,
            v_cache: &v_cache,
            positions: &[length as u32 - 1],
            sequences: &[1],
        });
        for (h, (q, y)) in q.chunks(cache.head_dim).zip(y.chunks(cache.head_dim)).enumerate() {
            // The same, from the rows that were scattered and through the softmax kernel's reference.
            let head = h / group * cache.head_dim..(h / group + 1) * cache.head_dim;
            let score = |k: &[f32]| k.iter().zip(q).map(|(&k, &q)| f64::from(k) * f64::from(q)).sum::<f64>() as f32;
            let scores: Vec<f32> = keys.chunks(width).map(|k| score(&k[head.clone()])).collect();
            let weights = SoftMax::new(1, length, 0.3)?.reference(&scores);
            for i in 0..cache.head_dim {
                let want: f64 = weights.iter().zip(values.chunks(width)).map(|(w, v)| w * f64::from(v[head.start + i])).sum();
                prop_assert!((want - y[i]).abs() < 1e-5, "{} {}", want, y[i]);
            }
        }
    }
}

fn message<K: std::fmt::Debug>(kernel: Result<K, KernelError>) -> String {
    match kernel {
        Err(error) => error.to_string(),
        Ok(kernel) => panic!("{kernel:?} is not refused"),
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let cache =
        CacheShape { n_sequences: 1, n_kv_heads: 3, max_seq: 8, head_dim: 64, element: ElementType::F32 };
    assert_eq!(
        message(Attention::new(cache, 1, 8, 0.1)),
        "attention: 8 heads do not share 3 key heads evenly"
    );
    let odd = CacheShape { head_dim: 66, ..cache };
    assert_eq!(
        message(Attention::new(odd, 1, 3, 0.1)),
        "attention: head_dim is 66, it must be a multiple of 4 up to 256"
    );
    let wide = CacheShape { head_dim: 260, ..cache };
    assert!(message(Attention::new(wide, 1, 3, 0.1)).contains("260"));
    assert!(message(Attention::new(cache, 1, 3, f32::NAN)).contains("NaN"));
    assert_eq!(message(KvScatter::new(cache, 0)), "kv_scatter: rows is 0, it must be in 1..2^31");
    let huge = CacheShape { n_sequences: 1 << 20, max_seq: 1 << 30, ..cache };
    assert!(message(KvScatter::new(huge, 1)).contains("exceeds"));
    let rope = RopeShape { rows: 1, heads: 1, head_dim: 64, n_rot: 66, max_seq: 8 };
    assert!(message(Rope::new(RopeStyle::NeoX, rope)).contains("n_rot is 66"));
    assert!(message(Rope::new(RopeStyle::NeoX, RopeShape { n_rot: 3, ..rope })).contains("n_rot is 3"));
    assert!(message(RmsNorm::new(1, 64, -1.0)).contains("eps is -1"));
    assert!(message(RmsNorm::new(1 << 40, 64, 0.0)).contains("rows is 1099511627776"));
    assert!(message(SoftMax::new(1, 64, 0.0)).contains("scale is 0"));
    assert!(message(SoftMax::new(1, 64, f32::MAX)).contains("log2(e)"));
    let table = |vocab| EmbedRows::new(ElementType::F32, vocab, 1 << 24, 1);
    assert!(table(1 << 22).is_ok());
    assert_eq!(
        message(table((1 << 22) + 1)),
        "embed_rows: table of 4194305 rows of 67108864 bytes exceeds 281474976710656 bytes"
    );
}

/// Those of reference and kernel have to be the same, or the one hides what is wrong with the other.
#[test]
fn references_take_whole_parameters() {
    let add = Elementwise::new(ElementwiseOp::Add, 2, 3).unwrap();
    let rope = RopeShape { rows: 2, heads: 1, head_dim: 2, n_rot: 2, max_seq: 4 };
    let rope = Rope::new(RopeStyle::NeoX, rope).unwrap();
    let cache =
        CacheShape { n_sequences: 1, n_kv_heads: 1, max_seq: 2, head_dim: 4, element: ElementType::F32 };
    let scatter = KvScatter::new(cache, 1).unwrap();
    let attention = Attention::new(cache, 1, 1, 1.0).unwrap();
    let attend = |positions: &[u32], sequences: &[u32]| {
        let inputs =
            AttentionInputs { q: &[0.0; 4], k_cache: &[0.0; 8], v_cache: &[0.0; 8], positions, sequences };
        attention.reference(inputs);
    };
    let calls: [(&str, &dyn Fn()); 7] = [
        ("a is short", &|| drop(add.reference(&[0.0; 5], &[0.0; 6]))),
        ("b is long", &|| drop(add.reference(&[0.0; 6], &[0.0; 7]))),
        ("positions of rope", &|| drop(rope.reference(&[0.0; 4], &[0; 3], &[0.0; 8]))),
        ("positions of kv_scatter", &|| scatter.reference(&mut [0.0; 8], &[0.0; 4], &[0; 2], &[0])),
        ("sequences of kv_scatter", &|| scatter.reference(&mut [0.0; 8], &[0.0; 4], &[0], &[0; 2])),
        ("positions of attention", &|| attend(&[0; 2], &[0])),
        ("sequences of attention", &|| attend(&[0], &[0; 2])),
    ];
    for (what, call) in calls {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err(), "{what}");
    }
}

#[test]
fn references_of_products_refuse_other_lengths() {
    let q8_0 = ElementType::Q8_0;
    let gemv = GemvQ8::new(q8_0, 2, 32, 2).unwrap();
    assert!(gemv.reference(&[0; 68], &[0; 80]).is_ok());
    assert!(gemv.reference(&[0; 68], &[0; 81]).is_err());

    let weights = [0; 2 * 136];
    let of = |bias: bool, values: Option<&[f32]>| {
        let kernel = ResidualProjection::new(q8_0, (2, 128), 2, bias).unwrap();
        kernel.reference(&[0.0; 256], &weights, values, &[0.0; 4])
    };
    assert_eq!(of(true, Some(&[1.0, 2.0])).unwrap(), [1.0, 2.0, 1.0, 2.0]);
    assert!(of(false, None).is_ok());
    for (bias, values) in [
        (true, None),
        (true, Some(&[][..])),
        (true, Some(&[1.0])),
        (true, Some(&[1.0; 4])),
        (false, Some(&[1.0; 2])),
    ] {
        assert!(of(bias, values).is_err(), "{bias} {values:?}");
    }

    let cache =
        CacheShape { n_sequences: 1, n_kv_heads: 1, max_seq: 4, head_dim: 2, element: ElementType::F32 };
    let input = |bias| {
        AttentionInput::new(AttentionInputShape {
            batch: 2,
            cols: 128,
            eps: 0.0,
            elements: [q8_0; 3],
            n_heads: 1,
            bias,
            style: RopeStyle::NeoX,
            table_positions: 3,
            cache,
        })
    };
    let right = projection::AttentionInputs {
        x: &[1.0; 256],
        norm: &[1.0; 128],
        weights: [&weights; 3],
        biases: None,
        positions: &[0; 2],
        table: &[0.0; 6],
    };
    let short: [&[f32]; 3] = [&[0.0; 2], &[0.0; 2], &[0.0; 1]];
    let (plain, biased) = (input(false).unwrap(), input(true).unwrap());
    assert!(plain.reference(right).is_ok());
    for wrong in [
        projection::AttentionInputs { positions: &[], ..right },
        projection::AttentionInputs { positions: &[0; 3], ..right },
        projection::AttentionInputs { table: &[0.0; 4], ..right },
        projection::AttentionInputs { biases: Some([&[0.0; 2]; 3]), ..right },
    ] {
        assert!(plain.reference(wrong).is_err(), "{wrong:?}");
    }
    assert!(biased.reference(right).is_err());
    assert!(biased.reference(projection::AttentionInputs { biases: Some(short), ..right }).is_err());
    assert!(biased.reference(projection::AttentionInputs { biases: Some([&[0.0; 2]; 3]), ..right }).is_ok());
}

#[test]
fn several_activation_rows_are_refused_with_what_they_need() {
    let kernel = ResidualProjection::new(ElementType::Q4_K, (10, 256), 5, false);
    assert_eq!(
        message(kernel),
        "residual_projection: 5 activation rows: more than 4 are multiplied on tensor cores, in whole tiles of 8 pairs \
         of weight rows, of each head where its halves are rotated"
    );
    let kernel = ResidualProjection::new(ElementType::Q4_K, (16, 256), 8, false);
    assert_eq!(
        message(kernel.and_then(|kernel| kernel.on(40, Target::SM_75))),
        "residual_projection: 8 activation rows: more than 4 are multiplied on tensor cores, which with 256 columns and \
         40 processors needs sm_80, not sm_75"
    );
}

#[test]
fn weights_of_16_bits_are_refused_where_they_meet_others_or_are_no_whole_tiles() {
    use ElementType::{BF16, F16, Q4_K};
    assert_eq!(
        message(ResidualProjection::of_q8(F16, (16, 256), 1, false)),
        "residual_projection: quantised activations and weights of type F16"
    );
    assert_eq!(
        message(ResidualProjection::new(BF16, (10, 256), 1, false)),
        "residual_projection: 1 rows of 256 columns, and weights of 16 bits that are not whole tiles, on sm_90"
    );
    let cache = CacheShape { n_sequences: 1, n_kv_heads: 1, max_seq: 4, head_dim: 32, element: F16 };
    let input = |elements| AttentionInputShape {
        batch: 1,
        cols: 256,
        eps: 0.0,
        elements,
        n_heads: 1,
        bias: false,
        style: RopeStyle::Interleaved,
        table_positions: 4,
        cache,
    };
    let mixed =
        |types| format!("attention_input: weights of types {types}, which meet different activations");
    assert_eq!(message(AttentionInput::new(input([F16, BF16, F16]))), mixed("F16, BF16, F16"));
    assert_eq!(message(AttentionInput::new(input([Q4_K, Q4_K, F16]))), mixed("Q4_K, Q4_K, F16"));
    // Halves and what becomes halves are multiplied alike.
    assert!(Gemm::attention_input(input([Q4_K, Q4_K, F16])).is_ok());
    let kernel = Gemm::attention_input(input([Q4_K, BF16, F16]));
    assert_eq!(message(kernel), "gemm_attention_input: weights that are bfloat16 beside others");
}
