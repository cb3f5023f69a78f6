//! The plans of whole steps of the embedded model, without a device.

use std::sync::Arc;

use kernels::Access;
use kernels::sample::LoopCondition;
use ptx_builder::Target;
use tensor_formats::ElementType;

use super::engine_layout::{EngineLayout, StepTensors, padded_rows};
use super::layout::ALIGNMENT;
use super::machine::Machine;
use super::memory_map::{MemoryMap, Region, RegionKind};
use super::plan::{LaunchPlan, Step};
use super::step_plan::{EngineRegions, StepPlan, advancing_plan, loop_end_plan, step_plan};
use crate::decoder::Output;
use crate::engine::{Activations, EngineOptions};
use crate::error::{Error, chain};
use crate::model::{Model, ModelConfig};
use crate::synthetic::{Preset, Quant, synthesize};

const OUTPUTS: [Output; 5] =
    [Output::Cache, Output::LastArgmax, Output::LastLogits, Output::AllArgmax, Output::AllLogits];

fn machine(options: &EngineOptions) -> Machine {
    Machine::H200.for_activations(options.activations)
}

struct Engine {
    config: ModelConfig,
    options: EngineOptions,
    layout: EngineLayout,
    regions: EngineRegions,
    map: Arc<MemoryMap>,
}

fn engine(activations: Activations, max_rows: usize) -> Engine {
    engine_with(max_rows, |options| options.activations = activations)
}

fn engine_with(max_rows: usize, change: impl FnOnce(&mut EngineOptions)) -> Engine {
    engine_of(&Model::embedded().unwrap(), max_rows, change)
}

fn engine_of(model: &Model, max_rows: usize, change: impl FnOnce(&mut EngineOptions)) -> Engine {
    let config = model.config().clone();
    let mut options =
        EngineOptions { max_seq: 64, n_sequences: 2, max_rows, ..EngineOptions::for_model(&config) };
    change(&mut options);
    let layout = EngineLayout::new(&config, &options, machine(&options)).unwrap();
    let mut map = MemoryMap::new();
    let mut add = |name: &str, kind, bytes| {
        let base = 0x10_0000_0000 * (map.iter().count() as u64 + 1);
        map.add(Region { name: name.into(), kind, base, bytes })
    };
    let regions = EngineRegions {
        weights: add("weights", RegionKind::Constant, layout.weight_bytes),
        caches: add("caches", RegionKind::State, layout.cache_bytes),
        state: add("state", RegionKind::State, layout.state_bytes()),
        workspace: add("workspace", RegionKind::Scratch, layout.workspace_bytes),
        counters: add("counters", RegionKind::State, layout.counter_bytes),
        host_state: add("host state", RegionKind::Host, layout.state_bytes()),
        host_results: add("host results", RegionKind::Host, 1 << 23),
        ring: add("ring", RegionKind::Mapped, layout.ring_bytes),
        control: add("loop", RegionKind::Mapped, 4 * LoopCondition::WORDS as u64),
        sampling: add("sampling", RegionKind::State, layout.sampling_bytes()),
    };
    Engine { config, options, layout, regions, map: Arc::new(map) }
}

impl Engine {
    fn plan(&self, rows: usize, output: Output) -> StepPlan {
        let machine = machine(&self.options);
        let tensors = StepTensors::new(&self.config, &self.options, (rows, output), machine).unwrap();
        step_plan(&tensors, &self.layout, &self.regions, &self.map, machine).unwrap()
    }

    fn advancing_plan(&self, rows: usize, output: Output) -> Result<LaunchPlan, Error> {
        let machine = machine(&self.options);
        let mut tensors = StepTensors::new(&self.config, &self.options, (rows, output), machine)?;
        if output.is_logits() {
            tensors.work_in_also(&self.layout.sampling.expect("a layout of a small model"))?;
        }
        advancing_plan(&tensors, &self.layout, &self.regions, &self.map, machine)
    }
}

fn count(plan: &LaunchPlan, prefix: &str) -> usize {
    plan.launches().filter(|launch| launch.name.starts_with(prefix)).count()
}

#[test]
fn tensors_have_places_of_their_own() {
    let Engine { config, options, layout, .. } = engine(Activations::Q8, 8);
    let mut places: Vec<_> = layout.weights.values().copied().chain([layout.rope_table]).collect();
    places.sort_by_key(|place| place.offset);
    for pair in places.windows(2) {
        assert!(pair[0].offset + pair[0].bytes <= pair[1].offset, "{pair:?}");
    }
    assert!(places.iter().all(|place| place.offset.is_multiple_of(ALIGNMENT)));
    let last = places.last().unwrap();
    assert!(last.offset + last.bytes <= layout.weight_bytes);
    assert_eq!(layout.rope_table.bytes, 64 * 64 * 4);
    assert_eq!(layout.caches.len(), config.n_layers);
    assert_eq!(layout.cache_bytes, config.kv_cache_bytes(options.kv, options.n_sequences, options.max_seq));
}

#[test]
fn every_weight_of_the_file_has_a_place_of_its_size() {
    let model = Model::embedded().unwrap();
    let layout = engine(Activations::Q8, 8).layout;
    let weights: Vec<_> = model.config().weights.iter().collect();
    assert_eq!(layout.weights.len(), weights.len());
    for weight in weights {
        let bytes = model.tensor_bytes(&weight.name).unwrap().len() as u64;
        assert_eq!(layout.weights[&weight.name].bytes, bytes, "{}", weight.name);
    }
}

#[test]
fn a_step_starts_with_its_state_and_ends_with_its_results() {
    let engine = engine(Activations::Q8, 8);
    for rows in [1, 2, 5, 8] {
        for output in OUTPUTS {
            let StepPlan { plan, result_bytes } = engine.plan(rows, output);
            let steps = plan.steps();
            let copies: Vec<_> = steps
                .iter()
                .enumerate()
                .filter_map(|(index, step)| match step {
                    Step::Copy { target, source } => Some((index, *target, *source)),
                    _ => None,
                })
                .collect();
            assert_eq!((copies[0].0, copies[0].2.region), (0, engine.regions.host_state));
            let results = output.result_rows(rows) as u64;
            let each = if output.is_logits() { engine.config.n_vocab as u64 * 4 } else { 4 };
            assert_eq!(result_bytes, results * each, "{rows} rows, {output:?}");
            if output == Output::Cache {
                assert_eq!(copies.len(), 1);
            } else {
                let (index, target, _) = copies[1];
                assert_eq!((index, copies.len()), (steps.len() - 1, 2));
                assert_eq!((target.region, target.bytes), (engine.regions.host_results, result_bytes));
            }
        }
    }
}

/// Nothing of such a step comes from the host, and nothing but its last launch writes what the next one begins with.
#[test]
fn a_step_that_hands_on_its_tokens_is_launches_alone() {
    let engine = engine(Activations::Q8, 8);
    for rows in [1, 2, 5, 8] {
        let plan = engine.advancing_plan(rows, Output::AllArgmax).unwrap();
        assert_eq!((plan.n_launches(), count(&plan, "advance")), (plan.steps().len(), 1));
        if rows == 1 {
            assert_eq!(plan.n_launches(), 5 * engine.config.n_layers + 3);
        }
        let (last, others) = plan.steps().split_last().unwrap();
        let shared = [engine.regions.state, engine.regions.ring];
        let writes =
            |step: &Step| step.accesses().writes.iter().filter(|span| shared.contains(&span.region)).count();
        assert_eq!((writes(last), others.iter().map(writes).sum::<usize>()), (4, 0), "{plan}");
        let edges = plan.edges();
        assert!((0..plan.steps().len() - 1).all(|step| edges.iter().any(|edge| edge.from == step)), "{plan}");
    }
    let error = chain(&engine.advancing_plan(2, Output::Cache).unwrap_err());
    assert!(error.contains("chooses no tokens"), "{error}");
    for rows in [1, 2] {
        let plan = engine.advancing_plan(rows, Output::AllLogits).unwrap();
        assert_eq!((count(&plan, "sample_"), count(&plan, "advance")), (3, 1), "{plan}");
        assert_eq!(plan.n_launches(), plan.steps().len(), "{plan}");
    }
}

/// The first launch waits for the last one of the step before, which leaves its tokens, and for nothing else. Within a step
/// nothing changes.
#[test]
fn steps_that_follow_each_other_are_joined_by_one_edge() {
    let engine = engine(Activations::Q8, 8);
    for (rows, output) in [1, 2, 5, 8].into_iter().flat_map(|rows| {
        let sampled = (rows <= 2).then_some((rows, Output::AllLogits));
        [Some((rows, Output::AllArgmax)), sampled].into_iter().flatten()
    }) {
        let plan = engine.advancing_plan(rows, output).unwrap();
        let (n, one) = (plan.steps().len(), plan.edges());
        let expected: Vec<_> = (0..4)
            .flat_map(|run| {
                let joint = (run > 0).then(|| (run * n - 1, run * n));
                joint.into_iter().chain(one.iter().map(move |edge| (run * n + edge.from, run * n + edge.to)))
            })
            .collect();
        let edges = |end: Option<&LaunchPlan>| -> Vec<_> {
            plan.edges_of_runs(4, end).iter().map(|edge| (edge.from, edge.to)).collect()
        };
        assert_eq!(edges(None), expected, "{rows} rows, {output:?}\n{plan}");
        // The end of a loop waits for the last step, which counts.
        // SAFETY: nobody runs it.
        let end = unsafe { loop_end_plan(&engine.layout, &engine.regions, &engine.map, 4) }.unwrap();
        let expected: Vec<_> = expected.into_iter().chain([(4 * n - 1, 4 * n)]).collect();
        assert_eq!(edges(Some(&end)), expected, "{rows} rows, {output:?}\n{plan}");
    }
}

#[test]
fn the_type_of_the_caches_is_that_of_their_kernels() {
    for (kv, name) in [(ElementType::F32, "f32"), (ElementType::F16, "f16"), (ElementType::F8E4M3, "e4m3")] {
        let engine = engine_with(8, |options| options.kv = kv);
        let layers = engine.config.n_layers;
        let plan = engine.plan(1, Output::LastArgmax).plan;
        assert_eq!(count(&plan, &format!("attention_{name}_")), layers);
        let inputs = plan.launches().filter(|launch| launch.name.starts_with("attention_input"));
        assert_eq!(inputs.filter(|launch| launch.name.contains(&format!("_{name}_s2_"))).count(), layers);
        assert_eq!(engine.layout.cache_bytes, engine.config.kv_cache_bytes(kv, 2, 64));
    }
}

#[test]
fn attention_of_long_caches_works_in_memory_apart_from_the_intermediates() {
    // Too long for clusters, which need neither.
    let engine = engine_with(8, |options| options.max_seq = 7000);
    let tensors =
        StepTensors::new(&engine.config, &engine.options, (8, Output::LastArgmax), Machine::H200).unwrap();
    assert!(tensors.working.scratch > 0 && tensors.working.counters > 0);
    let plan = engine.plan(8, Output::LastArgmax).plan;
    let intermediates = tensors.memory.workspace_bytes;
    for launch in plan.launches().filter(|launch| launch.name.starts_with("attention_f32")) {
        let of = |access| {
            let at = launch.params.iter().position(|param| param.access == access);
            launch.touched[at.unwrap()]
        };
        let (scratch, counters) = (of(Access::Scratch), of(Access::Counter));
        assert_eq!((scratch.region, counters.region), (engine.regions.workspace, engine.regions.counters));
        assert!(scratch.offset >= intermediates && scratch.end() <= engine.layout.workspace_bytes);
        assert!(counters.end() <= engine.layout.counter_bytes);
    }
}

#[test]
fn a_layer_has_the_launches_that_it_should() {
    let engine = engine(Activations::Q8, 8);
    let layers = engine.config.n_layers;
    let plan = engine.plan(1, Output::LastArgmax).plan;
    assert_eq!(count(&plan, "embed_rows"), 1);
    assert_eq!(count(&plan, "attention_input"), layers);
    assert_eq!(count(&plan, "attention_f32"), layers);
    assert_eq!(count(&plan, "residual_projection"), 2 * layers);
    assert_eq!(count(&plan, "residual_projection_attended"), layers);
    assert_eq!(count(&plan, "gated_projection"), layers);
    assert_eq!(count(&plan, "greedy_head"), 1);
    assert_eq!(plan.n_launches(), 5 * layers + 2);
    assert_eq!(plan.n_launches() + 2, plan.steps().len());
}

#[test]
fn f32_activations_are_not_quantised() {
    let plan = engine(Activations::F32, 8).plan(2, Output::LastLogits).plan;
    assert_eq!(count(&plan, "quantize"), 0);
    assert_eq!(count(&plan, "gemv_q8") + count(&plan, "residual_projection"), 0);
    assert!(count(&plan, "gemv_q4_k") > 0 && count(&plan, "gemv_q6_k") > 0, "{plan}");
}

#[test]
fn weights_of_16_bits_are_fused_like_others_unless_activations_are_f32() {
    for quant in [Quant::F16, Quant::BF16] {
        let model = synthesize(Preset::TinyQwen2, quant, 1).unwrap();
        let launches = |rows: usize, activations: Activations| {
            let engine = engine_of(&model, 8, |options| options.activations = activations);
            let plan = engine.plan(rows, Output::LastArgmax).plan;
            (plan.n_launches(), count(&plan, "gemv"), engine.config.n_layers)
        };
        for rows in [1, 8] {
            let (launched, gemv, layers) = launches(rows, Activations::Q8);
            // Five a layer, the embedding, and the head.
            assert_eq!((launched, gemv), (5 * layers + 2, 0), "{quant}, {rows} rows");
            let (_, gemv, layers) = launches(rows, Activations::F32);
            assert_eq!(gemv, 7 * layers + 1, "{quant}, {rows} rows");
        }
    }
}

#[test]
fn chunks_of_a_prompt_fill_the_cache_without_a_head() {
    let engine = engine(Activations::Q8, 12);
    let (full, cache) = (engine.plan(12, Output::LastArgmax).plan, engine.plan(12, Output::Cache).plan);
    // Two launches for 12 rows, one for the head, which only the last row goes through.
    assert_eq!(count(&cache, "attention_input"), 2 * engine.config.n_layers);
    assert_eq!(count(&cache, "attention_f32"), engine.config.n_layers - 1);
    assert_eq!(count(&cache, "greedy_head"), 0);
    assert!(cache.n_launches() < full.n_launches());
    assert_eq!(count(&full, "residual_projection"), 2 * 2 * engine.config.n_layers);
    assert_eq!(count(&full, "greedy_head"), 1);
}

#[test]
fn nothing_of_a_step_is_unordered_with_its_ends() {
    let plan = engine(Activations::Q8, 8).plan(3, Output::AllArgmax).plan;
    let (n, edges) = (plan.steps().len(), plan.edges());
    let mut from_start = vec![false; n];
    from_start[0] = true;
    let mut to_end = vec![false; n];
    to_end[n - 1] = true;
    for edge in &edges {
        from_start[edge.to] |= from_start[edge.from];
    }
    for edge in edges.iter().rev() {
        to_end[edge.from] |= to_end[edge.to];
    }
    assert_eq!(to_end.iter().position(|&reaches| !reaches), None, "{plan}");
    // Every launch that depends on the step's rows waits for them.
    assert_eq!(from_start.iter().position(|&waits| !waits), None, "{plan}");
    assert!(edges.len() < 2 * n, "{} edges for {n} steps", edges.len());
}

#[test]
fn plans_are_deterministic() {
    let listing = || engine(Activations::Q8, 8).plan(2, Output::AllLogits).plan.to_string();
    assert_eq!(listing(), listing());
}

#[test]
fn a_workspace_that_is_too_small_is_refused() {
    let mut engine = engine(Activations::Q8, 8);
    let mut map = MemoryMap::new();
    for (id, region) in engine.map.iter() {
        let bytes = if id == engine.regions.workspace { 1024 } else { region.bytes };
        map.add(Region { bytes, ..region.clone() });
    }
    engine.map = Arc::new(map);
    let tensors =
        StepTensors::new(&engine.config, &engine.options, (8, Output::AllLogits), Machine::H200).unwrap();
    let error = step_plan(&tensors, &engine.layout, &engine.regions, &engine.map, Machine::H200).unwrap_err();
    assert!(chain(&error).contains("beyond the 1024 bytes bound"), "{}", chain(&error));
}

#[test]
fn a_weight_without_a_place_is_refused_by_name() {
    let mut engine = engine(Activations::Q8, 8);
    engine.layout.weights.remove("blk.3.ffn_up.weight");
    let tensors =
        StepTensors::new(&engine.config, &engine.options, (1, Output::LastArgmax), Machine::H200).unwrap();
    let error = step_plan(&tensors, &engine.layout, &engine.regions, &engine.map, Machine::H200).unwrap_err();
    assert!(chain(&error).contains("blk.3.ffn_up.weight"), "{}", chain(&error));
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_both_numbers() {
    let need = engine(Activations::Q8, 8).layout.need();
    assert!(need.check(need.total()).is_ok());
    let error = need.check(need.total() - 1).unwrap_err().to_string();
    assert!(error.contains(&need.total().to_string()), "{error}");
    assert!(error.contains(&(need.total() - 1).to_string()), "{error}");
}

/// Emitters compute sizes and places from shapes, and overflow is an error where tests run. The catalogue has
/// the shapes of the 8b.
#[test]
fn kernels_of_known_models_can_be_emitted() {
    for preset in [Preset::Llama32_1B, Preset::Qwen25_1_5B] {
        let model = synthesize(preset, Quant::Q4KM, 1).unwrap();
        let engine = engine_of(&model, 8, |_| ());
        for rows in [1, 2, 4, 7, 8] {
            let plan = engine.plan(rows, Output::AllLogits).plan;
            for (name, kernel) in plan.kernels() {
                kernel.emit(Machine::H200.target).unwrap_or_else(|error| panic!("{preset}: {name}: {error}"));
            }
        }
    }
}

#[test]
fn long_prompts_are_multiplied_as_halves() {
    let rows = |change: fn(&mut EngineOptions)| {
        engine_with(8, change).layout.prompt_rows.map(|rows| (rows.above, rows.most))
    };
    // Of 128 positions; of as many as the options have.
    assert_eq!(rows(|_| ()), Some((20, 128)));
    assert_eq!(rows(|options| options.prompt_rows = 40), Some((20, 40)));
    assert_eq!(rows(|options| options.max_rows = 60), Some((60, 128)));
    // Where others are asked for, or cannot be.
    assert_eq!(rows(|options| options.prompt_rows = 20), None);
    assert_eq!(rows(|options| options.max_rows = 128), None);
    assert_eq!(rows(|options| options.activations = Activations::F32), None);
    let halves = synthesize(Preset::Tiny, Quant::F16, 1).unwrap();
    let rows = engine_of(&halves, 8, |_| ()).layout.prompt_rows;
    assert_eq!(rows.map(|rows| (rows.above, rows.most)), Some((20, 128)));
    let floats = synthesize(Preset::Tiny, Quant::F32, 1).unwrap();
    assert_eq!(engine_of(&floats, 8, |_| ()).layout.prompt_rows, None);
    let other = Machine { target: Target::SM_90, ..Machine::H200 };
    let Engine { config, options, .. } = engine_with(8, |_| ());
    assert_eq!(EngineLayout::new(&config, &options, other).unwrap().prompt_rows, None);
}

#[test]
fn kernels_for_prompts_are_made_for_few_numbers_of_rows() {
    let rows = [21, 32, 33, 64, 65, 512].map(padded_rows);
    assert_eq!(rows, [32, 32, 64, 64, 128, 512]);
}

/// Each of four products of a layer is a launch that makes halves of its rows and one that multiplies them, attention one.
#[test]
fn a_prompts_layer_is_nine_launches() {
    let engine = engine_with(8, |options| options.kv = ElementType::F16);
    let shape = (padded_rows(64), Output::LastArgmax);
    let machine = engine.layout.step_machine(Machine::H200, shape.0, shape.1);
    let tensors = StepTensors::new(&engine.config, &engine.options, shape, machine).unwrap();
    assert!(tensors.workspace_bytes() <= engine.layout.workspace_bytes);
    let plan = step_plan(&tensors, &engine.layout, &engine.regions, &engine.map, machine).unwrap().plan;
    let names: Vec<String> = plan.launches().map(|launch| launch.kernel.name()).collect();
    let count = |what: &str| names.iter().filter(|name| name.starts_with(what)).count();
    let layers = engine.config.n_layers;
    assert_eq!((count("half_rows"), count("gemm")), (4 * layers, 4 * layers), "{names:?}");
    assert_eq!(count("prompt_attention") + count("attention_f16"), layers, "{names:?}");
    // Beside them the embedding, and the head of the last row.
    assert_eq!(names.len(), 9 * layers + 2, "{names:?}");
}

/// With activations of F16 the steps of sequences that decode together are such launches, too, and so is their head.
#[test]
fn steps_of_halves_have_nine_launches_a_layer() {
    let halves = |options: &mut EngineOptions| {
        (options.kv, options.activations, options.n_sequences) = (ElementType::F16, Activations::F16, 32);
    };
    for rows in [1, 8, 9, 32] {
        let engine = engine_with(32, halves);
        let plan = engine.plan(rows, Output::AllArgmax).plan;
        let names: Vec<String> = plan.launches().map(|launch| launch.kernel.name()).collect();
        let count = |what: &str| names.iter().filter(|name| name.starts_with(what)).count();
        let layers = engine.config.n_layers;
        assert_eq!((count("half_rows"), count("gemm")), (4 * layers + 1, 4 * layers + 1), "{names:?}");
        assert_eq!(
            (count("attention_f16"), count("gemm_head"), count("argmax")),
            (layers, 1, 1),
            "{names:?}"
        );
        assert_eq!(names.len(), 9 * layers + 4, "{names:?}");
    }
}

#[test]
fn activations_of_f16_are_refused_where_nothing_multiplies_them() {
    let Engine { config, options, .. } = engine_with(8, |options| options.activations = Activations::F16);
    let machine = Machine::H200.for_activations(Activations::F16);
    let other = Machine { target: Target::SM_90, ..machine };
    assert!(EngineLayout::new(&config, &options, machine).is_ok());
    let refused = EngineLayout::new(&config, &options, other).unwrap_err().chain();
    assert!(refused.contains("compute capability 9.0"), "{refused}");
    let floats = synthesize(Preset::Tiny, Quant::F32, 1).unwrap();
    let refused = EngineLayout::new(floats.config(), &options, machine).unwrap_err().chain();
    assert!(refused.contains("not F32"), "{refused}");
    let many = EngineOptions { max_rows: EngineOptions::HALVES_ROWS + 1, ..options };
    let refused = many.check(&config).unwrap_err().to_string();
    assert!(refused.contains("max_rows is 129, the limit is 128"), "{refused}");
}
