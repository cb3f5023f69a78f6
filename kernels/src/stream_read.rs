//! A stream of reads: what the memory of a device gives at best.

use ptx_builder::{Module, Target, U32};
use tensor_formats::ElementType;

use crate::cases::Case;
use crate::emit;
use crate::random::Random;
use crate::support::{WARP, boxed, dim, extent, known, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "stream_read";
const THREADS: u32 = 256;
const WARPS: u32 = THREADS / WARP;
/// Loads of 16 bytes that a thread has under way at once.
const LOADS: u32 = 8;
/// Bytes that a block reads in a round, in a row.
const TILE: u32 = THREADS * 16 * LOADS;

/// Reads memory once, from its first byte to its last, as fast as it comes: the roof that kernels which read weights are
/// compared with.
///
/// Parameters: `x`, the `tiles` x `blocks` tiles of [`TILE_BYTES`](Self::TILE_BYTES) bytes that are read, as u32, block
/// `b` reading the tiles `b`, `b + blocks` and so on; and `y`, for each warp of each block the exclusive or of all
/// words that it read, so that nothing can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRead {
    tiles: u32,
    blocks: u32,
}

impl StreamRead {
    /// Bytes of a tile.
    pub const TILE_BYTES: u64 = TILE as u64;

    /// The kernel in which each of `blocks` blocks reads `tiles` tiles.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for a count of 0, more than 65,535 blocks, or more memory than an address spans.
    pub fn new(blocks: usize, tiles: usize) -> Result<Self, KernelError> {
        let (blocks, tiles) = (dim(FAMILY, "blocks", blocks)?, dim(FAMILY, "tiles", tiles)?);
        if blocks > 0xFFFF {
            return Err(refuse(FAMILY, format!("{blocks} blocks are more than 65535")));
        }
        extent(FAMILY, "x", &[blocks, tiles, TILE / 4])?;
        Ok(Self { tiles, blocks })
    }

    /// Bytes that a launch reads.
    pub fn bytes(&self) -> u64 {
        u64::from(self.tiles) * u64::from(self.blocks) * Self::TILE_BYTES
    }

    /// Words that a launch writes.
    pub fn results(&self) -> u64 {
        u64::from(self.blocks) * u64::from(WARPS)
    }
}

impl Kernel for StreamRead {
    fn name(&self) -> String {
        format!("{FAMILY}_t{}_b{}", self.tiles, self.blocks)
    }

    fn params(&self) -> Vec<Param> {
        let param =
            |name, access, bytes, align| Param { name, access, element: ElementType::U32, bytes, align };
        vec![param("x", Access::Read, self.bytes(), 16), param("y", Access::Write, 4 * self.results(), 4)]
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry { grid: [self.blocks, 1, 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    /// An operation for each word.
    fn cost(&self, _context: u64) -> Cost {
        Cost { bytes_read: self.bytes(), bytes_written: 4 * self.results(), operations: self.bytes() / 4 }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, [x, y]| {
            let (block, thread) = (k.ctaid_x(), k.tid_x());
            let tile = k.ptr_index(x, block, TILE);
            let first = k.ptr_index(tile, thread, 16);
            let at = k.var(first);
            let all = k.var::<U32>(0);
            k.for_range::<U32>(0, self.tiles, 1, |k, _| {
                let here = k.get(at);
                let loads: Vec<_> =
                    (0..LOADS).map(|i| k.ld_global_v4::<U32>(here + (i * THREADS * 16) as i32)).collect();
                for word in loads.into_iter().flatten() {
                    k.update(all, |k, all| k.xor(all, word));
                }
                k.update(at, |k, at| k.add(at, u64::from(self.blocks) * Self::TILE_BYTES));
            });
            let mut all = k.get(all);
            for lanes in [16, 8, 4, 2, 1] {
                let other = k.shfl_bfly(all, lanes);
                all = k.xor(all, other);
            }
            let index = k.mad(block, THREADS, thread);
            let warp = k.shr(index, 5);
            let at = k.ptr_index(y, warp, 4);
            let lane = k.and(thread, WARP - 1);
            let first = k.eq(lane, 0);
            k.guarded(first, |k| k.st_global::<U32>(at, all));
        })
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    // The second reads 1 GiB on 132 processors.
    [(2, 3), (1056, 31)].into_iter().map(|(blocks, tiles)| boxed(StreamRead::new(blocks, tiles))).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let case = |blocks: usize, tiles: usize| {
        let kernel = known(StreamRead::new(blocks, tiles));
        let x = Random::new(blocks as u64).bytes(kernel.bytes() as usize);
        let expected = read_by_warps(&x, blocks);
        Case::new(kernel, "").with_bytes("x", &x).expect_bytes("y", expected)
    };
    vec![case(1, 1), case(1, 3), case(2, 3), case(5, 2)]
}

/// What each warp of `blocks` blocks reads: of each tile of its block, 512 bytes in every 4096.
fn read_by_warps(x: &[u8], blocks: usize) -> Vec<u8> {
    let mut results = vec![[0u8; 4]; blocks * WARPS as usize];
    for (i, word) in x.chunks_exact(4).enumerate() {
        let byte = 4 * i;
        let (block, warp) = (byte / TILE as usize % blocks, byte / 512 % WARPS as usize);
        let result = &mut results[block * WARPS as usize + warp];
        result.iter_mut().zip(word).for_each(|(all, byte)| *all ^= byte);
    }
    results.concat()
}
