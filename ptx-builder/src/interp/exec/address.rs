//! Addresses between state spaces and blocks: `isspacep`, `mapa`, `getctarank`.

use super::block::Env;
use crate::inst::Space;
use crate::interp::memory::{LOCAL_WINDOW, RANK_SHIFT, SHARED_WINDOW};
use crate::interp::program::PARAM_WINDOW;
use crate::interp::regs::{Args, File, Regs};

/// Bytes of a window of the generic address space.
const WINDOW: u64 = 1 << 32;
/// The bits of an address in shared memory that name the block.
const RANK: u64 = 0xFF << RANK_SHIFT;

/// The state space of a generic address, as a block of this rank sees it.
fn space_of(env: &Env<'_, '_>, address: u64) -> Space {
    let inside = |window: u64| address.wrapping_sub(window) < WINDOW;
    if inside(SHARED_WINDOW) {
        let rank = (address & RANK) >> RANK_SHIFT;
        return if rank == u64::from(env.block.rank) { Space::Shared } else { Space::SharedCluster };
    }
    if inside(LOCAL_WINDOW) {
        return Space::Local;
    }
    if inside(PARAM_WINDOW) {
        return Space::Param;
    }
    let globals = env.grid.code.module.globals.iter().zip(env.grid.globals);
    let mut constants = globals.filter(|(global, _)| global.space == Space::Const);
    if constants.any(|(global, base)| address.wrapping_sub(*base) < global.bytes()) {
        Space::Const
    } else {
        Space::Global
    }
}

impl Env<'_, '_> {
    pub(super) fn is_space(&self, regs: &mut Regs, args: &Args, space: Space, active: u32) {
        let mut found = 0;
        for lane in super::lanes(active) {
            let is = space_of(self, regs.l[args.slots[1] as usize][lane]);
            // The window of the cluster contains that of the block.
            let holds = is == space || (space == Space::SharedCluster && is == Space::Shared);
            found |= u32::from(holds) << lane;
        }
        let row = &mut regs.p[args.slots[0] as usize];
        *row = *row & !active | found;
    }
}

/// The same place in the shared memory of the block with that rank.
pub(super) fn mapa(regs: &mut Regs, args: &Args, file: File, active: u32) {
    let [to, from, rank] = [args.slots[0] as usize, args.slots[1] as usize, args.slots[2] as usize];
    for lane in super::lanes(active) {
        let rank = u64::from(regs.w[rank][lane]) << RANK_SHIFT & RANK;
        if file == File::L {
            regs.l[to][lane] = regs.l[from][lane] & !RANK | rank;
        } else {
            let moved = u64::from(regs.w[from][lane]) & !RANK | rank;
            #[expect(clippy::cast_possible_truncation, reason = "32-bit addresses")]
            let moved = moved as u32;
            regs.w[to][lane] = moved;
        }
    }
}

/// The rank of the block whose shared memory an address is in.
pub(super) fn rank(regs: &mut Regs, args: &Args, file: File, active: u32) {
    let [to, from] = [args.slots[0] as usize, args.slots[1] as usize];
    for lane in super::lanes(active) {
        let address = if file == File::L { regs.l[from][lane] } else { u64::from(regs.w[from][lane]) };
        let rank = ((address & RANK) >> RANK_SHIFT) as u32;
        regs.w[to][lane] = rank;
    }
}
