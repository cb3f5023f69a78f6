//! Frames of calls: registers with their constants filled in.

use super::grid::Grid;
use super::warp::Frame;
use crate::inst::SpecialReg;
use crate::interp::program::{Constant, Source, align, function_address};
use crate::interp::regs::{File, LANES, Regs};

/// Where a warp is, as special registers say it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) block: [u32; 3],
    /// Rank of the block in its cluster.
    pub(super) rank: u32,
    /// Number of the warp in its block.
    pub(super) warp: u32,
}

/// What is the same for all frames of a function in a launch, and what is not.
#[derive(Debug)]
pub(in crate::interp) struct Template {
    regs: Regs,
    /// Constants that differ between blocks, warps, lanes or frames.
    varying: Vec<Constant>,
    param_words: usize,
    pub(super) local_bytes: u32,
}

impl Template {
    pub(super) fn new(grid: &Grid<'_>, function: u32) -> Self {
        let layout = &grid.code.functions[function as usize].layout;
        let mut regs = Regs {
            w: vec![[0; LANES]; layout.w as usize],
            l: vec![[0; LANES]; layout.l as usize],
            p: vec![0; layout.p as usize],
        };
        let mut varying = Vec::new();
        for constant in &layout.constants {
            match uniform(grid, constant.source) {
                Some(value) => fill(&mut regs, *constant, value),
                None => varying.push(*constant),
            }
        }
        Self {
            regs,
            varying,
            param_words: layout.param_bytes.div_ceil(4) as usize,
            local_bytes: align(layout.local.bytes, 16),
        }
    }

    /// A frame of the function for the lanes of a mask. `local` is where its local arrays start.
    pub(super) fn frame(
        &self,
        grid: &Grid<'_>,
        function: u32,
        place: Place,
        local: u32,
        lanes: u32,
    ) -> Frame {
        let mut frame = Frame {
            function,
            regs: self.regs.clone(),
            params: vec![[0; LANES]; self.param_words],
            parent: None,
            depth: 0,
            local_end: local.saturating_add(self.local_bytes),
            lanes,
        };
        for constant in &self.varying {
            match constant.source {
                Source::Special(special) => match thread(grid, special, place.warp) {
                    Some(values) => fill_lanes(&mut frame.regs, *constant, &values),
                    None => fill(&mut frame.regs, *constant, block(grid, special, place)),
                },
                Source::Shared(offset) => {
                    let base = grid.kernel.shared.functions.get(&(function as usize)).copied().unwrap_or(0);
                    let address = grid.shared_address(place.rank, base.wrapping_add(offset));
                    fill(&mut frame.regs, *constant, u64::from(address));
                }
                Source::ModuleShared(id) => {
                    let offset = grid.kernel.shared.globals.get(&id.index()).copied().unwrap_or(0);
                    fill(&mut frame.regs, *constant, u64::from(grid.shared_address(place.rank, offset)));
                }
                Source::DynamicShared => {
                    let address = grid.shared_address(place.rank, grid.dynamic_offset);
                    fill(&mut frame.regs, *constant, u64::from(address));
                }
                Source::Local(offset) => {
                    fill(&mut frame.regs, *constant, u64::from(local.wrapping_add(offset)));
                }
                Source::Bits(_) | Source::Param(_) | Source::Global(_) | Source::Function(_) => {}
            }
        }
        frame
    }
}

/// The value of a constant that is the same for the whole launch.
fn uniform(grid: &Grid<'_>, source: Source) -> Option<u64> {
    let [x, y, z] = grid.block;
    let [gx, gy, gz] = grid.grid;
    let [cx, cy, cz] = grid.cluster;
    let threads = x * y * z;
    let special = match source {
        Source::Bits(bits) => return Some(bits),
        Source::Param(offset) => return Some(u64::from(offset)),
        Source::Global(id) => return Some(grid.globals.get(id.index()).copied().unwrap_or(0)),
        Source::Function(id) => return Some(function_address(id.0)),
        Source::Shared(_) | Source::ModuleShared(_) | Source::DynamicShared | Source::Local(_) => {
            return None;
        }
        Source::Special(special) => special,
    };
    let value = match special {
        SpecialReg::NtidX => x,
        SpecialReg::NtidY => y,
        SpecialReg::NtidZ => z,
        SpecialReg::NctaidX => gx,
        SpecialReg::NctaidY => gy,
        SpecialReg::NctaidZ => gz,
        SpecialReg::NWarpId => threads.div_ceil(32).max(64),
        SpecialReg::NSmId => MULTIPROCESSORS,
        SpecialReg::DynamicSmemSize => grid.dynamic_shared,
        SpecialReg::TotalSmemSize => grid.shared_bytes,
        SpecialReg::ReservedSmemOffset1 => RESERVED_SHARED,
        SpecialReg::ClusterNctaRank => cx * cy * cz,
        SpecialReg::ClusterNctaidX => cx,
        SpecialReg::ClusterNctaidY => cy,
        SpecialReg::ClusterNctaidZ => cz,
        SpecialReg::NClusterIdX => gx / cx,
        SpecialReg::NClusterIdY => gy / cy,
        SpecialReg::NClusterIdZ => gz / cz,
        SpecialReg::GridId => return Some(grid.id.0),
        SpecialReg::EnvReg1 => return Some(grid.words & 0xFFFF_FFFF),
        SpecialReg::EnvReg2 => return Some(grid.words >> 32),
        _ => return None,
    };
    Some(u64::from(value))
}

/// Where shared memory of the system is: behind all that a block can have. Nobody reserves any here, so an access is a
/// fault; code that takes the address and does without it is what compilers print for cooperative groups.
const RESERVED_SHARED: u32 = 1 << 20;

/// As many as blocks are told to run on.
const MULTIPROCESSORS: u32 = 132;

/// The value of a special register that is the same for the warp.
fn block(grid: &Grid<'_>, special: SpecialReg, place: Place) -> u64 {
    let [x, y, z] = place.block;
    let [cx, cy, cz] = grid.cluster;
    let [gx, gy, _] = grid.grid;
    let linear = u64::from(x) + u64::from(gx) * (u64::from(y) + u64::from(gy) * u64::from(z));
    match special {
        SpecialReg::CtaidX => u64::from(x),
        SpecialReg::CtaidY => u64::from(y),
        SpecialReg::CtaidZ => u64::from(z),
        SpecialReg::WarpId => u64::from(place.warp),
        SpecialReg::SmId => linear % u64::from(MULTIPROCESSORS),
        SpecialReg::ClusterCtaidX => u64::from(x % cx),
        SpecialReg::ClusterCtaidY => u64::from(y % cy),
        SpecialReg::ClusterCtaidZ => u64::from(z % cz),
        SpecialReg::ClusterIdX => u64::from(x / cx),
        SpecialReg::ClusterIdY => u64::from(y / cy),
        SpecialReg::ClusterIdZ => u64::from(z / cz),
        SpecialReg::ClusterCtaRank => u64::from(place.rank),
        // Every other one is uniform, differs between lanes, or is read when the instruction executes.
        _ => 0,
    }
}

/// The values of a special register that differs between lanes.
fn thread(grid: &Grid<'_>, special: SpecialReg, warp: u32) -> Option<[u32; LANES]> {
    let [x, y, _] = grid.block;
    let of: fn(u32, [u32; 2]) -> u32 = match special {
        SpecialReg::TidX => |thread, [x, _]| thread % x,
        SpecialReg::TidY => |thread, [x, y]| thread / x % y,
        SpecialReg::TidZ => |thread, [x, y]| thread / x / y,
        SpecialReg::LaneId => |thread, _| thread % 32,
        SpecialReg::LaneMaskEq => |thread, _| 1 << (thread % 32),
        SpecialReg::LaneMaskLt => |thread, _| (1 << (thread % 32)) - 1,
        SpecialReg::LaneMaskLe => |thread, _| (1 << (thread % 32)) | ((1 << (thread % 32)) - 1),
        SpecialReg::LaneMaskGt => |thread, _| !((1 << (thread % 32)) | ((1 << (thread % 32)) - 1)),
        SpecialReg::LaneMaskGe => |thread, _| !((1 << (thread % 32)) - 1),
        _ => return None,
    };
    let mut values = [0; LANES];
    for (lane, value) in (0..).zip(&mut values) {
        *value = of(warp * 32 + lane, [x.max(1), y.max(1)]);
    }
    Some(values)
}

fn fill(regs: &mut Regs, constant: Constant, value: u64) {
    let slot = constant.slot as usize;
    #[expect(clippy::cast_possible_truncation, reason = "the row holds the low half")]
    match constant.file {
        File::P => regs.p[slot] = if value == 0 { 0 } else { u32::MAX },
        File::W => regs.w[slot] = [value as u32; LANES],
        File::L => regs.l[slot] = [value; LANES],
    }
}

fn fill_lanes(regs: &mut Regs, constant: Constant, values: &[u32; LANES]) {
    let slot = constant.slot as usize;
    match constant.file {
        File::P => {}
        File::W => regs.w[slot] = *values,
        File::L => regs.l[slot] = values.map(u64::from),
    }
}
