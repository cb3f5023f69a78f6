//! `wgmma.mma_async`: a warp computes the sixteen rows of D whose accumulators it has.
//!
//! Results are there when the instruction has executed, which is one of the times that hardware may choose. What it
//! reads of shared memory is read again when its group is waited for, so that who writes in between is found.

use super::block::Env;
use super::warp::Warp;
use crate::inst::{MatrixDescriptor, MatrixElement, Space};
use crate::interp::alu::{self, Sums};
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::{Access, RANK_SHIFT, Site, Strength, Values};
use crate::interp::program::{WgmmaSource, WgmmaStep};
use crate::interp::regs::{FULL, LANES, Regs};

/// Layouts of matrices consist of chunks of 16 bytes.
const CHUNK: Access = Access { space: Space::Shared, bytes: 16, strength: Strength::Weak };

/// One access to shared memory.
#[derive(Clone, Debug)]
struct Read {
    pc: u32,
    mask: u32,
    addresses: Box<[u64; LANES]>,
}

/// What the products of a warp that nobody has waited for read, by group, the last of which is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Products {
    committed: Vec<Vec<Read>>,
    open: Vec<Read>,
}

impl Products {
    /// `wgmma.commit_group`.
    pub(super) fn commit(&mut self) {
        self.committed.push(std::mem::take(&mut self.open));
    }
}

/// A part of A or of B: rows or columns from `first` on, `count` of them.
#[derive(Clone, Copy)]
struct Part {
    descriptor: MatrixDescriptor,
    element: MatrixElement,
    transposed: bool,
    first: u32,
    count: u32,
}

impl Part {
    /// The addresses of its chunks, two for each row or column, and where the first element of each belongs: the row or
    /// column, counted from the first, and the depth.
    fn chunks(self) -> impl Iterator<Item = (u32, usize, usize)> {
        let per_chunk = (128 / self.element.bits()) as usize;
        (0..2 * self.count).map(move |x| {
            if self.transposed {
                let (c, k) = (x / 16, x % 16);
                let address = self.descriptor.across_depth(self.first / 8 + c, k);
                (address, c as usize * 8, k as usize)
            } else {
                let (i, c) = (x / 2, x % 2);
                (self.descriptor.along_depth(self.first + i, c), i as usize, c as usize * per_chunk)
            }
        })
    }
}

impl Warp {
    pub(super) fn wgmma(
        &mut self,
        env: &mut Env<'_, '_>,
        frame: usize,
        pc: u32,
        step: &WgmmaStep,
    ) -> Result<(), Fault> {
        let site = Site { warp: self.index, pc };
        if env.sync {
            if (self.number / 4 + 1) * 128 > env.grid.threads() {
                let detail = "a warpgroup is four whole warps, which the block does not have here".to_owned();
                env.report(FindingKind::InvalidUse, self.index, pc, self.live, detail);
            } else if self.live != FULL {
                let detail =
                    format!("all 32 lanes have to execute it, but only {:#010x} are left", self.live);
                env.report(FindingKind::InvalidUse, self.index, pc, self.live, detail);
            }
        }
        let regs = &self.frames[frame].regs;
        let lane = self.live.trailing_zeros() as usize % LANES;
        let descriptor = |env: &mut Env<'_, '_>, slot: u32| {
            let row = &regs.l[slot as usize];
            let other = super::lanes(self.live).filter(|other| row[*other] != row[lane]);
            let other = other.fold(0, |mask, lane| mask | 1 << lane);
            if other != 0 && env.sync {
                let detail = "the lanes have different matrix descriptors".to_owned();
                env.report(FindingKind::InvalidUse, self.index, pc, other, detail);
            }
            MatrixDescriptor::from_bits(row[lane])
        };
        let scale = regs.p[step.scale as usize] & self.live;
        if scale != 0 && scale != self.live && env.sync {
            let detail = "the lanes do not agree whether D is added to".to_owned();
            env.report(FindingKind::InvalidUse, self.index, pc, self.live & !scale, detail);
        }
        let adds = scale >> lane & 1 == 1;
        let shape = step.shape;
        let reads = &mut self.products.open;
        let a = match step.a {
            WgmmaSource::Registers(slots) => {
                alu::fragment_a(shape.a, 4, |r, lane| regs.w[slots[r] as usize][lane])
            }
            WgmmaSource::Descriptor(slot) => {
                let part = Part {
                    descriptor: descriptor(env, slot),
                    element: shape.a,
                    transposed: step.transposed[0],
                    first: self.number % 4 * 16,
                    count: 16,
                };
                let mut a = [[0.0; 32]; 16];
                env.matrix(site, part, reads, |row, k, value| a[row][k] = value)?;
                a
            }
        };
        let part = Part {
            descriptor: descriptor(env, step.b),
            element: shape.b,
            transposed: step.transposed[1],
            first: 0,
            count: u32::from(shape.n),
        };
        let mut b = vec![[[0.0; 8]; 32]; usize::from(shape.n) / 8];
        env.matrix(site, part, reads, |column, k, value| b[column / 8][k][column % 8] = value)?;
        let sums = Sums { ty: shape.d, clamps: shape.satfinite, adds, negative: step.negative };
        let depth = shape.depth() as usize;
        let regs = &mut self.frames[frame].regs;
        for (b, slots) in b.iter().zip(step.d.chunks(sums.registers())) {
            accumulate(regs, slots, sums, &alu::products(&a, &b[..depth]));
        }
        Ok(())
    }

    /// `wgmma.wait_group`: until at most that many groups are under way.
    pub(super) fn wait_products(&mut self, env: &mut Env<'_, '_>, open: u32) -> Result<(), Fault> {
        let done = self.products.committed.len().saturating_sub(open as usize);
        let mut data: Box<Values> = Box::new([[0; 8]; LANES]);
        for read in self.products.committed.drain(..done).flatten() {
            let site = Site { warp: self.index, pc: read.pc };
            env.memory.load(site, &CHUNK, read.mask, &read.addresses, &mut data)?;
        }
        Ok(())
    }
}

/// Eight columns of D: rows `g` and `g + 8` and columns `2t` and `2t + 1` are in the registers of lane `4g + t`.
fn accumulate(regs: &mut Regs, slots: &[u32], sums: Sums, products: &[[f64; 8]; 16]) {
    let per_row = slots.len() / 2;
    for (r, slot) in slots.iter().enumerate() {
        let row = &mut regs.w[*slot as usize];
        for (lane, word) in row.iter_mut().enumerate() {
            let (i, j) = (lane / 4 + 8 * (r / per_row), lane % 4 * 2 + r % per_row);
            *word = sums.add(*word, &products[i][j..]);
        }
    }
}

impl Env<'_, '_> {
    /// Reads a part of a matrix and tells each element.
    fn matrix(
        &mut self,
        site: Site,
        part: Part,
        reads: &mut Vec<Read>,
        mut tell: impl FnMut(usize, usize, f64),
    ) -> Result<(), Fault> {
        let per_word = 32 / part.element.bits() as usize;
        let chunks: Vec<_> = part.chunks().collect();
        let own = u64::from(self.block.rank) << RANK_SHIFT;
        for chunks in chunks.chunks(LANES) {
            let mut addresses = Box::new([0; LANES]);
            for (to, (address, ..)) in addresses.iter_mut().zip(chunks) {
                *to = own | u64::from(*address);
            }
            let mask = FULL >> (LANES - chunks.len());
            if !self.block.in_flight.is_empty() {
                self.buffers.addresses = *addresses;
                self.check_in_flight(site.warp, site.pc, &CHUNK, mask);
            }
            self.memory.load(site, &CHUNK, mask, &addresses, &mut self.buffers.data)?;
            for ((_, i, k), data) in chunks.iter().zip(self.buffers.data.iter()) {
                for e in 0..4 * per_word {
                    let value = part.element.get(data[e / per_word], e % per_word);
                    if part.transposed { tell(i + e, *k, value) } else { tell(*i, k + e, value) }
                }
            }
            if self.grid.options.sanitize.races {
                reads.push(Read { pc: site.pc, mask, addresses });
            }
        }
        // The lanes of these accesses are not those of the warp.
        self.memory.sync_lanes(site.warp, FULL);
        Ok(())
    }
}
