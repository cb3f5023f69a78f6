//! The interpreter and a GPU, side by side on every conformance case: the same bits wherever PTX defines them.

#![allow(clippy::print_stdout)] // How close they are, for whoever reads the test's output.

use std::collections::BTreeMap;

use kernels::Kernel;
use kernels::cases::{Case, Interpreter, PtxRunner, cases, family};
use ptx_builder::{Module, Op};
use tests::gpu;

/// Cases whose kernels are compiled at once, on all cores.
const GROUP: usize = 64;

/// The relative L2 distance that results of approximate instructions may have. `ex2.approx` and `rcp.approx` have at
/// most 2 ulp (2^-22), `rsqrt.approx` 2^-22.9, `div.full` 2 ulp, and a result takes a few of them.
const APPROXIMATE: f64 = 1e-6;

/// The same for cases of large scores that tensor cores sum: these sums may differ in their last bit, and a score between
/// 32 and 64 is an exponent, so that 2^-18 are 2.6e-6 of a weight. And for `wgmma`, which sums many products of halves.
const SHARP: f64 = 3e-6;

/// The same for [`PromptAttention`](kernels::attention::PromptAttention), which rounds weights to halves: where the two sides of
/// `ex2.approx` are 2^-22 apart, one weight in about 2^10 is rounded to another half, which is 2^-11 of it. Of results that are
/// sums of many weights that is 2^-16; four times as much where they are few.
const WEIGHTS_IN_HALVES: f64 = 6.1e-5;

/// Does the kernel use an instruction whose result PTX bounds but does not define?
fn is_approximate(module: &Module) -> bool {
    let approximate = [
        Op::DivApprox,
        Op::DivFull,
        Op::RcpApprox,
        Op::SqrtApprox,
        Op::RsqrtApprox,
        Op::DRsqrtApprox,
        Op::Ex2Approx,
        Op::Lg2Approx,
        Op::SinApprox,
        Op::CosApprox,
        Op::TanhApprox,
        Op::HEx2Approx,
        Op::HTanhApprox,
        Op::BEx2Approx,
        Op::BTanhApprox,
        Op::Mma,
        Op::Wgmma,
    ];
    uses(module, &approximate)
}

/// Does the kernel use one of `ops`?
fn uses(module: &Module, ops: &[Op]) -> bool {
    module.functions.iter().flat_map(|f| f.insts()).any(|(_, inst)| ops.contains(&inst.op()))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    bytes.chunks_exact(4).map(|word| f64::from(f32::from_le_bytes([word[0], word[1], word[2], word[3]])))
}

/// The relative L2 distance of two buffers of f32; what is not finite has to be the same.
fn distance(a: &[u8], b: &[u8]) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for (a, b) in floats(a).zip(floats(b)) {
        if a.is_finite() && b.is_finite() {
            difference += (a - b) * (a - b);
            size += a * a;
        } else if a.to_bits() != b.to_bits() {
            return f64::INFINITY;
        }
    }
    if difference == 0.0 { 0.0 } else { (difference / size).sqrt() }
}

#[derive(Default)]
struct Tally {
    exact: usize,
    approximate: usize,
    equal_anyway: usize,
    worst: f64,
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_interpreter_and_the_gpu_give_the_same_bits() {
    let mut device = gpu::runner();
    let mut interpreter = Interpreter::new(device.target());
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut failures = Vec::new();
    let target = device.target();
    let mut pending = cases("").filter(|case| case.kernel.runs_on(target)).peekable();
    while pending.peek().is_some() {
        let group: Vec<Case> = pending.by_ref().take(GROUP).collect();
        let kernels: Vec<&dyn Kernel> = group.iter().map(|case| case.kernel.as_ref()).collect();
        let _ = device.cache().get_all(&kernels);
        for case in &group {
            let module = case.kernel.emit(device.target()).unwrap_or_else(|error| panic!("{error}"));
            let family = family(&case.name).to_owned();
            let tally = tallies.entry(family).or_default();
            let (on_device, interpreted) = match (case.launch(&mut device), case.launch(&mut interpreter)) {
                (Ok(on_device), Ok(interpreted)) => (on_device, interpreted),
                (Err(failure), _) | (_, Err(failure)) => {
                    failures.push(failure.to_string());
                    continue;
                }
            };
            if is_approximate(&module) {
                tally.approximate += 1;
                let worst =
                    on_device.iter().zip(&interpreted).map(|(a, b)| distance(a, b)).fold(0.0, f64::max);
                tally.equal_anyway += usize::from(on_device == interpreted);
                tally.worst = tally.worst.max(worst);
                let sharp = case.name.ends_with("sharp") && uses(&module, &[Op::Mma]);
                let bound = if case.kernel.name().starts_with("prompt_attention") {
                    WEIGHTS_IN_HALVES
                } else if sharp || uses(&module, &[Op::Wgmma]) {
                    SHARP
                } else {
                    APPROXIMATE
                };
                if worst > bound {
                    failures.push(format!("{}: relative distance {worst:e}", case.name));
                }
            } else {
                tally.exact += 1;
                if on_device != interpreted {
                    let at = on_device
                        .iter()
                        .zip(&interpreted)
                        .enumerate()
                        .find_map(|(i, (a, b))| Some((i, a.iter().zip(b).position(|(a, b)| a != b)?)));
                    failures.push(format!("{}: differs first at (buffer, byte) {at:?}", case.name));
                }
            }
        }
    }
    for (family, t) in &tallies {
        println!(
            "{family}: {} cases bit for bit; {} with approximate instructions ({} of them equal), distance at most {:.1e}",
            t.exact, t.approximate, t.equal_anyway, t.worst
        );
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    assert!(tallies.values().map(|t| t.exact).sum::<usize>() > 200);
}
