//! A profile of a decoding step on the software driver: what is measured, and that nothing is left of it.

use gpu_driver_sim::{Sanitize, SimConfig, SimDriver};
use kernels::stream_read::StreamRead;
use runtime::cuda::{Profile, ProfileOptions};
use runtime::decoder::Output;
use runtime::roofline::{Roof, Roofline};
use tests::{data, gpu, sim};

const ONCE: ProfileOptions = ProfileOptions { context: 0, runs: 1, chain: 1 };

#[test]
fn a_profile_measures_every_step_and_changes_nothing() {
    let model = data::model("synthetic/tiny-q4_k_m.gguf");
    let options = gpu::options(&model, 2, 8);
    let text = |profile: bool| {
        sim::on_decoder(&sim::driver(0, Sanitize::ALL), &model, &options, |decoder| {
            let mut tokens = gpu::argmax(decoder, &gpu::rows(0, 0, &[7, 8, 9]), Output::LastArgmax);
            if profile {
                let profile = decoder.profile(&gpu::rows(0, 3, &tokens), Output::LastArgmax, ONCE).unwrap();
                check(&profile, 5 * model.config().n_layers + 2 + 2);
                assert_eq!(decoder.stats().nodes, profile.steps.len());
            }
            for position in 3..6 {
                let row = gpu::rows(0, position, &tokens[tokens.len() - 1..]);
                tokens.extend(gpu::argmax(decoder, &row, Output::LastArgmax));
            }
            tokens
        })
    };
    assert_eq!(text(true), text(false));
}

fn check(profile: &Profile, steps: usize) {
    let numbers: Vec<usize> = profile.steps.iter().map(|step| step.step).collect();
    assert_eq!(numbers, (0..steps).collect::<Vec<_>>());
    for step in &profile.steps {
        assert!(step.micros > 0.0 && step.cost.bytes_read > 0, "{step:?}");
        // Every kernel waits by itself, and no copy does.
        assert_eq!(step.overlapped.is_some(), step.name != "copy", "{step:?}");
        assert!(!step.cold, "the whole model fits the L2: {step:?}");
    }
    assert!(profile.micros > 0.0);
    let roofline = Roofline {
        model: "tiny".into(),
        gpu: "none".into(),
        context: 4,
        roof: Roof { bytes_per_second: 4e12, measured: None, operations_per_second: None },
        profile: profile.clone(),
    };
    let families: Vec<String> = roofline.families().into_iter().map(|family| family.name).collect();
    for family in
        ["copy", "embed_rows", "attention_input", "residual_projection", "gated_projection", "greedy_head"]
    {
        assert!(families.iter().any(|name| name.starts_with(family)), "{family}: {families:?}");
    }
    let (table, svg) = (roofline.to_string(), roofline.svg());
    assert!(families.iter().all(|name| table.contains(name) && svg.contains(name)), "{table}");
}

#[test]
fn a_profile_of_nothing_is_refused() {
    let model = data::model("synthetic/tiny-q4_k_m.gguf");
    let options = gpu::options(&model, 1, 8);
    sim::on_decoder(&sim::driver(0, Sanitize::ALL), &model, &options, |decoder| {
        for options in [ProfileOptions { runs: 0, ..ONCE }, ProfileOptions { chain: 0, ..ONCE }] {
            let error = decoder.profile(&gpu::rows(0, 0, &[1]), Output::LastArgmax, options).unwrap_err();
            assert!(error.chain().contains("must be at least 1, is 0"), "{}", error.chain());
        }
        assert!(decoder.read_rate(1 << 20, 0).is_err());
    });
}

#[test]
fn streams_of_several_numbers_of_blocks_are_tried() {
    let model = data::model("synthetic/tiny-q4_k_m.gguf");
    let config = SimConfig { processors: Some(3), ..SimConfig::default() };
    let driver = SimDriver::new(config).unwrap();
    sim::on_decoder(&driver, &model, &gpu::options(&model, 1, 8), |decoder| {
        driver.take_launches();
        let rate = decoder.read_rate(96 * StreamRead::TILE_BYTES, 1).unwrap();
        assert!(rate > 1e6 && rate.is_finite(), "{rate}");
        let mut kernels: Vec<String> =
            driver.take_launches().into_iter().map(|launch| launch.kernel).collect();
        assert_eq!(kernels.len(), 4 * 16);
        kernels.dedup();
        let names = ["t32_b3", "t16_b6", "t8_b12", "t4_b24"].map(|name| format!("stream_read_{name}"));
        assert_eq!(kernels, names);
    });
}

#[test]
fn the_speed_of_memory_is_that_of_a_stream_of_reads() {
    let model = data::model("synthetic/tiny-q4_k_m.gguf");
    // An H200, with as many multiprocessors.
    let driver = SimDriver::new(SimConfig::default()).unwrap();
    sim::on_decoder(&driver, &model, &gpu::options(&model, 1, 8), |decoder| {
        driver.take_launches();
        let rate = decoder.read_rate((3 << 20) + 1, 1).unwrap();
        assert!(rate > 1e6 && rate.is_finite(), "{rate}");
        let launches = driver.take_launches();
        // Two runs of eight launches, over a little more than was asked for.
        assert_eq!(launches.len(), 16);
        assert!(
            launches.iter().all(|launch| launch.kernel == "stream_read_t1_b97"),
            "{}",
            launches[0].kernel
        );
        assert!(decoder.arithmetic_rate().unwrap().is_some_and(|rate| rate > 1e13));
        assert_eq!(
            decoder.device_name().unwrap(),
            driver.driver().unwrap().device(0).unwrap().name().unwrap()
        );
    });
}
