//! The CUDA engine on the software driver: every kernel is interpreted and watched, no GPU is needed.

#![allow(clippy::print_stdout)] // What fell the other way, for whoever reads the test's output.

use gpu_driver_sim::{Sanitize, SimConfig, SimDriver, Target};
use runtime::cpu::CpuDecoder;
use runtime::decoder::{Output, Row};
use runtime::distance::Distance;
use runtime::synthetic::{Preset, Quant, synthesize};
use runtime::tokenizer::Tokenizer;
use runtime::{Activations, EngineOptions, Model};
use tensor_formats::ElementType;
use tests::golden::{self, Golden};
use tests::{data, gpu, quality, sim, synthetic};

const MODEL: &str = "tiny-q4_k_m.gguf";

/// Which recorded continuations are checked, and how.
struct Check {
    file: &'static str,
    eager: bool,
    driver: SimDriver,
    /// Which cases, of all in the order of their lengths.
    cases: std::ops::Range<usize>,
}

fn check_golden(check: Check) {
    let Check { file, eager, driver, cases } = check;
    let model = data::model(file);
    let tokenizer = Tokenizer::for_model(&model).unwrap();
    let mut golden = Golden::load();
    golden.cases.retain(|case| case.file == file);
    golden.cases.sort_by_key(|case| case.prompt_ids.len() + case.ids.len());
    golden.cases = golden.cases.drain(cases.clone()).collect();
    let options = EngineOptions { eager, ..gpu::options(&model, 1, 8) };
    let outcome = sim::on_decoder(&driver, &model, &options, |decoder| {
        let text = |ids: &[u32]| tokenizer.decode(ids).expect("generated tokens are in the vocabulary");
        let outcome = golden::check_cases(&golden, file, decoder, text);
        let stats = decoder.stats();
        assert_eq!((stats.eager_steps == 0, stats.graph_steps == 0), (!eager, eager), "{stats:?}");
        outcome
    });
    println!("{}", outcome.report(&format!("{file}, eager: {eager}")));
    assert!(outcome.failures.is_empty(), "{file}, eager: {eager}:\n{}", outcome.failures.join("\n"));
    assert_eq!(outcome.equal + outcome.flipped.len(), cases.len(), "cases checked");
}

/// Questions of all kinds, and their answers.
#[test]
fn recorded_outputs_as_a_graph() {
    check_golden(Check { file: MODEL, eager: false, driver: sim::driver(1, Sanitize::ALL), cases: 0..11 });
}

/// On a device without fused projections.
#[test]
fn recorded_outputs_kernel_by_kernel() {
    check_golden(Check { file: MODEL, eager: true, driver: of_target(Target::SM_75), cases: 5..8 });
}

/// Fast enough for a longer text.
#[test]
fn recorded_outputs_without_sanitizers() {
    let driver = || sim::driver(1, Sanitize::NONE);
    check_golden(Check { file: MODEL, eager: false, driver: driver(), cases: 11..12 });
    check_golden(Check { file: MODEL, eager: true, driver: driver(), cases: 0..5 });
}

#[test]
fn recorded_outputs_of_other_weights() {
    for file in ["tiny-q8_0.gguf", "tiny-f16.gguf"] {
        check_golden(Check { file, eager: false, driver: sim::driver(1, Sanitize::ALL), cases: 0..2 });
    }
}

#[test]
fn logits_of_random_models_agree_with_the_exact_ones() {
    for (seed, random) in (0..).zip(synthetic::ALL) {
        let model = Model::open(data::path(&random.file())).unwrap();
        // Without quantised weights, nothing quantises activations.
        let activations: &[_] =
            if random.quantised { &[Activations::F32, Activations::Q8] } else { &[Activations::F32] };
        for &activations in activations {
            let options = EngineOptions { activations, ..gpu::options(&model, 1, 8) };
            let driver = sim::driver(seed, Sanitize::ALL);
            let distance = sim::on_decoder(&driver, &model, &options, |decoder| random.compare(decoder));
            println!("{} {activations:?}: {distance:?}", random.name);
            random.check(activations, distance);
        }
    }
}

#[test]
fn activations_of_8_bits_hardly_move_the_distributions() {
    let model = data::model(MODEL);
    let mut texts = quality::golden_texts(&Golden::load(), MODEL);
    texts.retain(|text| text.len() <= 22);
    let options = EngineOptions { kv: ElementType::F16, ..gpu::options(&model, 1, 16) };
    let drivers = [sim::driver(7, Sanitize::NONE), sim::driver(8, Sanitize::NONE)];
    let distance = sim::on_decoder(&drivers[0], &model, &options, |decoder| {
        sim::on_decoder(&drivers[1], &model, &quality::right(&options), |right| {
            quality::compare(decoder, right, &texts)
        })
    });
    println!("{MODEL}: {distance}");
    assert!(texts.len() >= 5);
    quality::check(MODEL, distance, texts.iter().map(Vec::len).sum());
}

/// What each type of cache loses, and that both engines lose the same. Sums in another order round now and then to
/// another stored value, which costs less the finer the type is.
#[test]
fn caches_of_every_type_hold_the_same_values_on_both_engines() {
    let model = random_model();
    let tokens = synthetic::tokens();
    let n_vocab = model.config().n_vocab;
    let types = [ElementType::F32, ElementType::F16, ElementType::BF16, ElementType::F8E4M3];
    let mut exact: Option<Vec<f32>> = None;
    let between_engines = [1e-5, 2e-4, 1e-3, 2e-2];
    let by_rounding = [0.0..=0.0, 1e-5..=2e-3, 1e-4..=1e-2, 1e-2..=2e-1];
    for ((kv, between_engines), by_rounding) in types.into_iter().zip(between_engines).zip(by_rounding) {
        let activations = Activations::F32;
        let options = EngineOptions { activations, kv, ..gpu::options(&model, 1, 8) };
        let mut cpu = CpuDecoder::new(&model, &options).unwrap();
        let on_cpu = golden::all_logits(&mut cpu, &tokens);
        let driver = sim::driver(5, Sanitize::ALL);
        let on_cuda =
            sim::on_decoder(&driver, &model, &options, |decoder| golden::all_logits(decoder, &tokens));
        let engines = Distance::between(&on_cuda, &on_cpu, n_vocab);
        let exact = exact.get_or_insert_with(|| on_cuda.clone());
        let rounding = Distance::between(&on_cuda, exact, n_vocab);
        println!("{kv}: between engines {engines:?}, by rounding {rounding:?}");
        assert!(engines.relative_rms <= between_engines, "{kv}: {engines:?}");
        assert!(by_rounding.contains(&rounding.relative_rms), "{kv}: {rounding:?}");
    }
}

fn random_model() -> Model {
    Model::open(data::path("synthetic/tiny-q4_k_m.gguf")).unwrap()
}

#[test]
fn logits_do_not_depend_on_the_chunks_of_a_prompt() {
    let model = random_model();
    let tokens = synthetic::tokens();
    let logits = |max_rows| {
        let driver = sim::driver(2, Sanitize::ALL);
        sim::on_decoder(&driver, &model, &gpu::options(&model, 1, max_rows), |decoder| {
            golden::all_logits(decoder, &tokens)
        })
    };
    let one_by_one = logits(1);
    for max_rows in [2, 5, 8, 9, 16] {
        assert!(logits(max_rows) == one_by_one, "chunks of {max_rows}");
    }
}

/// Three sequences that take their steps together, at different positions, and each alone.
#[test]
fn logits_do_not_depend_on_the_batch() {
    let model = random_model();
    let n_vocab = model.config().n_vocab;
    let texts: [Vec<u32>; 3] =
        [gpu::tokens(1, 9, n_vocab), gpu::tokens(2, 7, n_vocab), gpu::tokens(3, 5, n_vocab)];
    let driver = sim::driver(3, Sanitize::ALL);
    let (together, alone) = sim::on_decoder(&driver, &model, &gpu::options(&model, 6, 9), |decoder| {
        // Texts of unequal lengths first, so that afterwards each is at another position.
        let mut prompts = |first: u32| {
            for (sequence, text) in (first..).zip(&texts) {
                gpu::step(decoder, &gpu::rows(sequence, 0, text), Output::Cache);
            }
        };
        prompts(0);
        prompts(3);
        let row = |sequence: u32, text: &[u32], step: u32| Row {
            token: text[step as usize],
            position: text.len() as u32 + step,
            sequence,
        };
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for step in 0..3 {
            let rows: Vec<_> = (0..).zip(&texts).map(|(sequence, text)| row(sequence, text, step)).collect();
            together.extend(gpu::logits(decoder, &rows, Output::AllLogits));
            for (sequence, text) in (3..).zip(&texts) {
                alone.extend(gpu::logits(decoder, &[row(sequence, text, step)], Output::LastLogits));
            }
        }
        (together, alone)
    });
    assert_eq!(together.len(), 9 * n_vocab);
    assert!(together == alone);
}

/// The logits of a prompt and of single tokens after it, as bits.
fn transcript(model: &Model, driver: &SimDriver, eager: bool) -> Vec<u32> {
    let options = EngineOptions { eager, ..gpu::options(model, 1, 8) };
    sim::on_decoder(driver, model, &options, |decoder| {
        let tokens = gpu::tokens(4, 11, model.config().n_vocab);
        let mut bits = gpu::logits(decoder, &gpu::rows(0, 0, &tokens[..8]), Output::AllLogits);
        for position in 8..11 {
            let rows = gpu::rows(0, position, &tokens[position as usize..=position as usize]);
            bits.extend(gpu::logits(decoder, &rows, Output::LastLogits));
        }
        bits
    })
}

/// Each seed runs unordered nodes of the graph, blocks and warps in another order. A missing edge would show.
#[test]
fn every_order_that_the_graph_allows_gives_the_same_bits() {
    let models = [
        (random_model(), 0..8),
        (data::model("synthetic/tiny-qwen2-q8_0.gguf"), 0..4),
        (synthesize(Preset::TinyQwen2, Quant::BF16, 1).unwrap(), 0..2),
    ];
    for (model, seeds) in models {
        let name = model.name();
        let expected = transcript(&model, &sim::driver(0, Sanitize::ALL), true);
        for seed in seeds {
            let driver = sim::driver(seed, Sanitize::ALL);
            assert!(transcript(&model, &driver, false) == expected, "{name}, seed {seed}");
        }
        assert!(transcript(&model, &sim::driver(5, Sanitize::ALL), true) == expected, "{name}");
    }
}

fn of_target(target: Target) -> SimDriver {
    SimDriver::new(SimConfig { target, ..SimConfig::default() }).unwrap()
}

/// The parts of a projection sum in another order than the kernel that fuses them, so a device on which nothing is fused
/// has bits of its own. Beside weights of 16 bits the order in which tensor cores sum is the interpreter's.
#[test]
fn every_target_that_fuses_gives_the_same_bits() {
    let halves = synthesize(Preset::Tiny, Quant::F16, 1).unwrap();
    for (model, targets) in [
        (random_model(), &[Target::SM_80, Target::SM_89, Target::SM_100A, Target::SM_120A][..]),
        (halves, &[Target::SM_80, Target::SM_120A]),
    ] {
        let expected = transcript(&model, &sim::driver(0, Sanitize::ALL), false);
        for &target in targets {
            let found = transcript(&model, &of_target(target), false);
            assert!(found == expected, "{}, {target}", model.name());
        }
        let [graph, eager] = [false, true].map(|eager| transcript(&model, &of_target(Target::SM_75), eager));
        assert!(graph == eager && graph.len() == expected.len(), "{}", model.name());
    }
}
