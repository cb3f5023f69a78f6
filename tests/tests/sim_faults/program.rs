//! A program that generates, and where it is when it makes which call.

use std::collections::BTreeMap;
use std::ops::Range;

use gpu_driver::{Context, Driver};
use gpu_driver_sim::{Call, Sanitize, SimConfig, SimDriver};
use runtime::cuda::CudaDecoder;
use runtime::decoder::{Decoder as _, Output, Row, StepOutput};
use runtime::error::chain;
use runtime::{EngineOptions, Model};
use tests::{data, gpu, sim};

/// A driver on which the same program makes the same calls in the same order.
pub fn new_sim() -> SimDriver {
    let (threads, sanitize, processors) = (Some(1), Sanitize::NONE, sim::PROCESSORS);
    let config = SimConfig { threads, sanitize, processors, ..SimConfig::default() };
    SimDriver::new(config).unwrap_or_else(|error| panic!("{error}"))
}

pub fn model() -> Model {
    data::model("synthetic/tiny-q4_k_m.gguf")
}

/// The program's steps, the prompt's among them.
const STEPS: usize = 5;

/// A program that generates a few tokens.
pub struct Program {
    pub model: Model,
    pub options: EngineOptions,
}

/// Where the program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Opening,
    Loading,
    /// The step with this index.
    Step(usize),
    Ending,
}

/// A call of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    pub phase: Phase,
    /// The call before it: with the function, all that is known of the place in the program.
    pub after: &'static str,
    pub call: &'static str,
    /// Which call of the function, from 1.
    pub nth: u64,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Run {
    pub tokens: Vec<u32>,
    /// The errors that the program met, as text.
    pub errors: Vec<String>,
    /// Why steps ran eagerly, if not because they were to.
    pub eager: Option<String>,
    /// What destructors met.
    pub dropped: Vec<String>,
    /// How many calls had been made as each phase began.
    began: Vec<(Phase, usize)>,
}

impl Program {
    pub fn new(eager: bool) -> Self {
        let model = model();
        let options = EngineOptions { eager, ..gpu::options(&model, 1, 4) };
        Self { model, options }
    }

    /// Runs until the end, or the first error that does not go away when a step is asked for again.
    pub fn run(&self, sim: &SimDriver) -> Run {
        let mut run = Run::default();
        let driver = sim.driver().unwrap_or_else(|error| panic!("{error}"));
        run.began.push((Phase::Opening, sim.trace().len()));
        match driver.context(0) {
            Ok(context) => self.run_in(&context, sim, &mut run),
            Err(error) => run.errors.push(chain(&error)),
        }
        run.dropped = dropped(&driver);
        run
    }

    fn run_in(&self, context: &Context, sim: &SimDriver, run: &mut Run) {
        run.began.push((Phase::Loading, sim.trace().len()));
        let mut decoder = match CudaDecoder::with_context(&self.model, &self.options, context) {
            Ok(decoder) => decoder,
            Err(error) => return run.errors.push(error.chain()),
        };
        let mut rows = gpu::rows(0, 0, &[7, 8, 9]);
        for step in 0..STEPS {
            run.began.push((Phase::Step(step), sim.trace().len()));
            let token = match take_step(&mut decoder, step, &rows, &mut run.errors) {
                Some(token) => token,
                None => return,
            };
            run.tokens.push(token);
            rows = gpu::rows(0, 3 + step as u32, &[token]);
        }
        if !self.options.eager {
            run.eager = decoder.eager_reason().map(str::to_owned);
        }
        run.began.push((Phase::Ending, sim.trace().len()));
    }
}

/// The token of a step: the prompt is one, the others may run ahead. Where the step fails, it is asked for once more.
fn take_step(decoder: &mut CudaDecoder, step: usize, rows: &[Row], errors: &mut Vec<String>) -> Option<u32> {
    for _ in 0..2 {
        let token = match step {
            0 => decoder.step(rows, Output::LastArgmax).map(|output| match output {
                StepOutput::Argmax(tokens) => tokens[0],
                other => panic!("asked for a token, got {other:?}"),
            }),
            _ => decoder.decode_ahead(rows, STEPS - step - 1).map(|tokens| tokens[0]),
        };
        match token {
            Ok(token) => return Some(token),
            Err(error) => errors.push(error.chain()),
        }
    }
    None
}

fn dropped(driver: &Driver) -> Vec<String> {
    driver.take_drop_errors().iter().map(|dropped| format!("{}: {}", dropped.origin, dropped.error)).collect()
}

/// A run on a driver without faults.
pub struct Expected {
    pub tokens: Vec<u32>,
    calls: Vec<Call>,
    began: Vec<(Phase, usize)>,
}

impl Expected {
    pub fn new(program: &Program) -> Self {
        let sim = new_sim();
        let run = program.run(&sim);
        assert_eq!((run.errors.as_slice(), run.dropped.as_slice(), run.eager), (&[][..], &[][..], None));
        assert_eq!(run.tokens.len(), STEPS);
        sim::check_clean(&sim);
        Self { tokens: run.tokens, calls: sim.trace(), began: run.began }
    }

    fn phases(&self) -> impl Iterator<Item = (Phase, Range<usize>)> + '_ {
        let ends = self.began.iter().skip(1).map(|(_, begin)| *begin).chain([self.calls.len()]);
        self.began.iter().zip(ends).map(|((phase, begin), end)| (*phase, *begin..end))
    }

    /// Every call of the program, in order.
    pub fn sites(&self) -> Vec<Site> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut sites = Vec::with_capacity(self.calls.len());
        let mut after = "";
        for (phase, calls) in self.phases() {
            for call in &self.calls[calls] {
                let nth = counts.entry(call.name).or_default();
                *nth += 1;
                sites.push(Site { phase, after, call: call.name, nth: *nth });
                after = call.name;
            }
        }
        sites
    }
}
