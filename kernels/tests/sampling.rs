//! The three launches that sample, one after the other on the interpreter, on distributions that make a choice hard: the
//! token is the host's.

use kernels::cases::{Case, Interpreter};
use kernels::sample::{SampleCut, SampleDraw, SampleLargest, SamplingParams};
use proptest::prelude::*;
use ptx_builder::Target;

const HISTORY: [usize; 2] = [1, 64];

/// What a launch leaves in each of its parameters.
fn launch(case: Case, params: &[&str]) -> Vec<Vec<u32>> {
    let buffers = case.launch(&mut Interpreter::new(Target::SM_90A)).unwrap_or_else(|e| panic!("{e}"));
    let kernel_params = case.kernel.params();
    let of = |name: &&str| {
        let index = kernel_params.iter().position(|param| param.name == *name).expect("a parameter");
        let bytes = &buffers[index][..kernel_params[index].bytes as usize];
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    };
    params.iter().map(of).collect()
}

fn on_device(params: &SamplingParams, logits: &[f32], history: &[u32], position: u32) -> u32 {
    let n = logits.len();
    let words = params.words(0);
    let first = SampleLargest::new(1, n, HISTORY).expect("a shape that there is");
    let first = Case::new(first, "")
        .with_f32("x", logits)
        .with_u32("history", history)
        .with_u32("params", &words)
        .with_u32("positions", &[position])
        .with_u32("sequences", &[0]);
    let left = launch(first, &["x", "largest"]);
    let x: Vec<f32> = left[0].iter().map(|&bits| f32::from_bits(bits)).collect();
    let second = Case::new(SampleCut::new(1, n).expect("a shape that there is"), "")
        .with_f32("x", &x)
        .with_u32("largest", &left[1])
        .with_u32("params", &words);
    let cut = launch(second, &["cut"]);
    let third = Case::new(SampleDraw::new(1, n, HISTORY).expect("a shape that there is"), "")
        .with_f32("x", &x)
        .with_u32("largest", &left[1])
        .with_u32("params", &words)
        .with_u32("cut", &cut[0])
        .with_u32("positions", &[position])
        .with_u32("sequences", &[0])
        .with_u32("history", history);
    launch(third, &["tokens"])[0][0]
}

fn on_host(params: &SamplingParams, logits: &[f32], history: &[u32], position: u32) -> u32 {
    let end = position as usize + 1;
    let recent = history[..end].iter().rev().take(params.recent as usize).copied();
    let mut penalised = Vec::new();
    params.penalise(logits, recent, &mut penalised);
    params.choose(&penalised, position, &mut Vec::new()).unwrap_or(u32::MAX)
}

/// Rows whose logits are alike in one way or another.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let special = || {
        prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(-0.0), Just(f32::MAX)]
    };
    let row = |logit: BoxedStrategy<f32>| {
        prop_oneof![1usize..70, 1000usize..2100]
            .prop_flat_map(move |n| prop::collection::vec(logit.clone(), n))
    };
    prop_oneof![
        3 => row((-20f32..20.0).boxed()),
        2 => row((0f32..0.01).boxed()),
        2 => row((-3i8..4).prop_map(f32::from).boxed()),
        1 => row(prop_oneof![Just(2.5f32), Just(2.5), Just(-1.0)].boxed()),
        1 => row(prop_oneof![40 => (-2f32..2.0).boxed(), 1 => special().boxed()].boxed()),
        1 => row(special().boxed()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn tokens_are_those_of_the_host(
        logits in logits(),
        temperature in prop_oneof![Just(0.0f32), Just(1.0), 0.05f32..4.0, Just(1e30), Just(1e-40)],
        top_k in prop_oneof![Just(0usize), Just(1), 1usize..40, 1usize..2500],
        top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0, Just(1e-30)],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0, Just(1.0)],
        (penalty, recent) in prop_oneof![Just((1.0f32, 0u32)), (0.3f32..3.0, 1u32..70)],
        history in prop::collection::vec(0u32..80, 64),
        seed: u64,
        position in 0u32..64,
    ) {
        let params =
            SamplingParams { penalty, recent, seed, ..SamplingParams::new(temperature, top_k, top_p, min_p) };
        let expected = on_host(&params, &logits, &history, position);
        prop_assert_eq!(on_device(&params, &logits, &history, position), expected);
    }
}
