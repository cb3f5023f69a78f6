//! What was measured to be fastest, by target: the numbers that choose between kernels with the same results.

use ptx_builder::Target;

/// Where one way of doing a projection becomes better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuning {
    /// Activation rows from which on tensor cores multiply.
    pub(super) first_tile_batch: u32,
    /// Bytes of weights for each processor below which clusters have four blocks, which share more of their work, and two
    /// from there on, which leave fewer processors idle.
    pub(super) clusters_of_four_below: u64,
    /// Bytes of weights for each processor from which on several rows take all the shared memory there is for their rings.
    /// With less to read, activations that the kernel waited for queued behind weights when this was measured: all slots
    /// were filled before the wait then.
    pub(super) long_rings_from: u64,
    /// Activations of a block from which on a launch that quantises them once for all blocks is worth its time.
    pub(super) quantised_from: u32,
}

/// By compute capability.
const MEASURED: [(u32, Tuning); 1] = [(
    // An H200: docs/measurements/2026-11-22-decode.md.
    90,
    Tuning {
        first_tile_batch: 3,
        clusters_of_four_below: 384 << 10,
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
