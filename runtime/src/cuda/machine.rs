//! What kernels are made for.

use kernels::projection;
use ptx_builder::Target;

use crate::engine::Activations;

/// What the choice of kernels depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// What they may use.
    pub target: Target,
    /// Multiprocessors that they are spread over.
    pub processors: u32,
    /// What they may round.
    pub rounds: Rounds,
    /// Whether the rows of a step are of one sequence or of few, as those of a prompt are, so that attention had better take
    /// them together.
    pub prompt: bool,
}

/// Which activations the kernel of a group may round to floats of 16 bits, each more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rounds {
    /// None: a group gives what its parts give.
    Nothing,
    /// Those that meet weights in F16 and BF16.
    BesideHalves,
    /// Those of groups of many rows, too, whatever their weights are: see [`Gemm`](projection::Gemm).
    ManyRows,
    /// Those of all groups.
    AllRows,
}

impl Machine {
    /// An H200, whose kernels may do what [`Activations::Q8`] lets them do.
    pub const H200: Self = Self {
        target: Target::SM_90A,
        processors: projection::PROCESSORS,
        rounds: Rounds::BesideHalves,
        prompt: false,
    };

    /// The same with kernels that round as `activations` says, of few rows.
    #[must_use]
    pub const fn for_activations(self, activations: Activations) -> Self {
        let rounds = match activations {
            Activations::Q8 => Rounds::BesideHalves,
            Activations::F16 => Rounds::AllRows,
            Activations::F32 => Rounds::Nothing,
        };
        Self { rounds, ..self }
    }

    /// Whether groups of so many rows are multiplied as halves.
    pub fn multiplies_halves(self, rows: usize) -> bool {
        match self.rounds {
            Rounds::Nothing | Rounds::BesideHalves => false,
            Rounds::ManyRows => rows > projection::MAX_BATCH,
            Rounds::AllRows => true,
        }
    }
}
