//! What was measured to be fastest, by target: the numbers that choose between kernels with the same results.

use ptx_builder::Target;

/// Where one way of doing a projection becomes better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuning {
    /// Activation rows from which on tensor cores multiply.
    pub(super) first_tile_batch: u32,
    /// What several rows cost beside quantised weights where tensor cores multiply.
    pub(super) quantised: BlockCosts,
    /// The same beside weights of 16 bits.
    pub(super) halves: BlockCosts,
    /// Bytes of weights for each processor from which on several rows take all the shared memory there is for their rings.
    /// With less to read, activations that the kernel waited for queued behind weights when this was measured: all slots
    /// were filled before the wait then.
    pub(super) long_rings_from: u64,
    /// Activations of a block from which on a launch that quantises them once for all blocks is worth its time.
    pub(super) quantised_from: u32,
}

/// What a block does beside reading weights, in bytes of weights that it could read in the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockCosts {
    /// A byte of its activations, in f32.
    activation: u64,
    /// Another block of its cluster, at least.
    other: u64,
    /// The same in 1024ths of the weights.
    other_part: u64,
}

impl BlockCosts {
    /// A round of loads of activations beyond the first, which the loads of the next one wait for.
    const ROUND: u64 = 140 << 10;

    /// Of a block that reads so many bytes of weights and of activations, these in so many rounds, with so many others.
    pub(super) fn of_block(self, weights: u64, activations: u64, others: u64, rounds: u64) -> u64 {
        weights
            + self.activation * activations
            + others * self.other.max(weights * self.other_part / 1024)
            + rounds.saturating_sub(1) * Self::ROUND
    }
}

/// By compute capability.
const MEASURED: [(u32, Tuning); 1] = [(
    // An H200: docs/measurements/2026-11-22-decode.md and 2026-11-23-weights-of-16-bits.md.
    90,
    Tuning {
        first_tile_batch: 3,
        quantised: BlockCosts { activation: 5, other: 24 << 10, other_part: 0 },
        halves: BlockCosts { activation: 1, other: 48 << 10, other_part: 64 },
        long_rings_from: 192 << 10,
        quantised_from: 17 << 10,
    },
)];

/// For devices that were not measured: the same, but three rows, the closest choice, are left to dot products.
const UNMEASURED: Tuning = Tuning { first_tile_batch: 4, ..MEASURED[0].1 };

impl Tuning {
    /// For devices of `target`.
    pub(super) fn of(target: Target) -> Self {
        let measured = MEASURED.iter().find(|(sm, _)| *sm == target.sm());
        measured.map_or(UNMEASURED, |&(_, tuning)| tuning)
    }
}
