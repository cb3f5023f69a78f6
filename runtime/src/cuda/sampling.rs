//! Where rows keep what they are sampled by, and the launches that sample them.

use std::sync::Arc;

use kernels::sample::{MAX_VOCABULARY, SampleCut, SampleDraw, SampleLargest, SamplingParams};
use kernels::{Kernel, KernelError};
use tensor_formats::ElementType;

use super::engine_layout::Place;
use super::error::CudaError;
use super::executor::Bindings;
use super::layout::Layout;
use super::memory_map::{RegionId, Span};
use super::plan::{Argument, LaunchPlan};
use super::working_memory::{self, WorkingMemory};

/// The memory of sampling, in a region of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplingLayout {
    /// Rows at most.
    pub rows: usize,
    /// Logits of a row.
    pub n_vocab: usize,
    /// Sequences, and positions of each.
    pub history: [usize; 2],
    /// [`SamplingParams`] of each row.
    pub params: Place,
    /// The token at each position of each sequence, as far as it matters.
    pub tokens: Place,
    /// What the launches of a step hand on: the most likely tokens, the cuts, the tokens that are chosen.
    pub steps: [Place; 3],
    /// Bytes of the region.
    pub bytes: u64,
}

/// Words of a row of each of [`SamplingLayout::steps`].
const STEP_WORDS: [usize; 3] = [2, 8, 1];

impl SamplingLayout {
    /// The layout for so many rows, or `None` if no kernel samples a vocabulary or remembers sequences of these sizes;
    /// the host can.
    pub(super) fn new(rows: usize, n_vocab: usize, history: [usize; 2]) -> Option<Self> {
        let tokens = history[0].checked_mul(history[1]).filter(|&tokens| u32::try_from(tokens).is_ok())?;
        if n_vocab > MAX_VOCABULARY {
            return None;
        }
        let mut region = Layout::default();
        let mut place = |words: usize| {
            let bytes = (words as u64).checked_mul(4)?;
            Some(Place { offset: region.place(bytes)?, bytes })
        };
        let params = place(rows.checked_mul(SamplingParams::WORDS)?)?;
        let tokens = place(tokens)?;
        let [largest, cut, chosen] = STEP_WORDS.map(|words| place(rows.checked_mul(words)?));
        let steps = [largest?, cut?, chosen?];
        Some(Self { rows, n_vocab, history, params, tokens, steps, bytes: region.bytes() })
    }

    /// The kernels for `rows` rows, in their order.
    fn kernels(&self, rows: usize) -> Result<[Arc<dyn Kernel>; 3], KernelError> {
        Ok([
            Arc::new(SampleLargest::new(rows, self.n_vocab, self.history)?),
            Arc::new(SampleCut::new(rows, self.n_vocab)?),
            Arc::new(SampleDraw::new(rows, self.n_vocab, self.history)?),
        ])
    }

    /// What the kernels for `rows` rows work in.
    ///
    /// # Errors
    /// A shape that no kernel takes.
    pub(super) fn working(&self, rows: usize) -> Result<WorkingMemory, CudaError> {
        self.kernels(rows)?.iter().try_fold(WorkingMemory::default(), |most, kernel| {
            Ok(most.max(WorkingMemory::of(&kernel.params())?))
        })
    }

    /// The positions `from..to` of a sequence in the history.
    pub(super) fn positions(&self, region: RegionId, sequence: u32, from: usize, to: usize) -> Option<Span> {
        let history = Span { region, offset: self.tokens.offset, bytes: self.tokens.bytes };
        let first = (sequence as usize).checked_mul(self.history[1])?.checked_add(from)?;
        history.slice(first as u64 * 4, to.checked_sub(from)? as u64 * 4)
    }

    /// Appends the launches that choose a token for each row of `logits`. Gives where the tokens will be.
    ///
    /// # Errors
    /// A shape that no kernel takes, working memory that is too small.
    pub(super) fn append(
        &self,
        plan: &mut LaunchPlan,
        bindings: &Bindings,
        region: RegionId,
        rows: &SampledRows,
    ) -> Result<Span, CudaError> {
        let own = |place: Place| Span { region, offset: place.offset, bytes: place.bytes };
        let SampledRows { rows, logits, positions, sequences } = *rows;
        let (params, history) = (own(self.params), own(self.tokens));
        let [largest, cut, chosen] = self.steps.map(own);
        let operands: [&[Span]; 3] = [
            &[logits, history, params, positions, sequences, largest],
            &[logits, largest, params, cut],
            &[logits, largest, params, cut, positions, sequences, chosen, history],
        ];
        for (kernel, spans) in self.kernels(rows)?.into_iter().zip(operands) {
            let element = |index| if index == 0 { ElementType::F32 } else { ElementType::U32 };
            let tensors =
                spans.iter().enumerate().map(|(i, &span)| Argument { span, element: element(i) }).collect();
            let arguments =
                working_memory::arguments(&kernel.name(), &kernel.params(), tensors, bindings.working())?;
            plan.launch(kernel, &arguments)?;
        }
        Ok(chosen)
    }
}

/// Rows to choose tokens for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampledRows {
    pub rows: usize,
    /// `[rows, n_vocab]` F32; the penalty changes them.
    pub logits: Span,
    /// `[rows]` U32.
    pub positions: Span,
    /// `[rows]` U32.
    pub sequences: Span,
}
