//! Rotary position embedding.

use ptx_builder::{F32, KernelBuilder, Module, Reg, Target, U32, U64};

use crate::cases::{Case, F32_BOUND};
use crate::emit;
use crate::random::Random;
use crate::support::{boxed, dim, dim_up_to, extent, f32_param, flat_launch, known, refuse, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "rope";
const THREADS: u32 = 128;
/// Byte offsets within a head fit 32 bits.
const MAX_HEAD_DIM: usize = 1 << 16;

/// Which features of a head are rotated together (Su et al., "RoFormer", 2021, has the interleaved form).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// Features `2i` and `2i + 1`.
    Interleaved,
    /// Features `i` and `i + n_rot / 2`, as in GPT-NeoX.
    NeoX,
}

/// The dimensions of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RopeShape {
    /// Rows (tokens).
    pub rows: usize,
    /// Heads of a row.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Features at the start of a head that are rotated; the others are copied. Even, at most `head_dim`.
    pub n_rot: usize,
    /// Positions of the table.
    pub max_seq: usize,
}

/// Rotates pair `i` of every head of row `r` by the angle whose cosine and sine are `table[positions[r], i]`:
/// `(a, b)` becomes `(a cos - b sin, a sin + b cos)`.
///
/// A row whose position is not below `max_seq` gets NaNs in the rotated features; nothing outside the table is read.
/// Parameters: `x` `[rows, heads * head_dim]` f32, `positions` `[rows]` u32, `table` `[max_seq, n_rot / 2, 2]` f32,
/// `y` like `x`; `y` may be `x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rope {
    style: RopeStyle,
    rows: u32,
    heads: u32,
    head_dim: u32,
    n_rot: u32,
    max_seq: u32,
}

impl Rope {
    /// The kernel for `shape`.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for a dimension of 0, an `n_rot` that is odd or above `head_dim`, or more than 2^32
    /// threads.
    pub fn new(style: RopeStyle, shape: RopeShape) -> Result<Self, KernelError> {
        let (rows, heads) = (dim(FAMILY, "rows", shape.rows)?, dim(FAMILY, "heads", shape.heads)?);
        let (head_dim, n_rot) = (
            dim_up_to(FAMILY, "head_dim", shape.head_dim, MAX_HEAD_DIM)?,
            dim(FAMILY, "n_rot", shape.n_rot)?,
        );
        let max_seq = dim(FAMILY, "max_seq", shape.max_seq)?;
        if n_rot % 2 != 0 || n_rot > head_dim {
            let reason = format!("n_rot is {n_rot}, it must be even and at most head_dim = {head_dim}");
            return Err(refuse(FAMILY, reason));
        }
        extent(FAMILY, "x", &[rows, heads, head_dim])?;
        extent(FAMILY, "table", &[max_seq, n_rot])?;
        let kernel = Self { style, rows, heads, head_dim, n_rot, max_seq };
        match flat_launch(kernel.items(), THREADS) {
            Some(_) => Ok(kernel),
            None => Err(refuse(FAMILY, format!("{shape:?} needs more than 2^32 threads"))),
        }
    }

    /// What the kernel computes, in f64.
    ///
    /// # Panics
    /// If the slices do not have the lengths of the parameters.
    pub fn reference(&self, x: &[f32], positions: &[u32], table: &[f32]) -> Vec<f64> {
        let (head_dim, pairs) = (self.head_dim as usize, self.pairs() as usize);
        assert_eq!((x.len() as u64, positions.len()), (self.elements(), self.rows as usize));
        assert_eq!(table.len(), self.max_seq as usize * pairs * 2);
        let mut y: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        for (index, head) in y.chunks_mut(head_dim).enumerate() {
            let position = positions[index / self.heads as usize] as usize;
            for pair in 0..pairs {
                let (a, b) = match self.style {
                    RopeStyle::Interleaved => (2 * pair, 2 * pair + 1),
                    RopeStyle::NeoX => (pair, pair + pairs),
                };
                let entry = |part: usize| match position < self.max_seq as usize {
                    true => f64::from(table[(position * pairs + pair) * 2 + part]),
                    false => f64::NAN,
                };
                let (cos, sin) = (entry(0), entry(1));
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
        y
    }

    fn pairs(&self) -> u32 {
        self.n_rot / 2
    }

    /// Threads of a head: one for each pair, one for each feature that is only copied.
    fn slots(&self) -> u32 {
        self.pairs() + (self.head_dim - self.n_rot)
    }

    fn items(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.heads) * u64::from(self.slots())
    }

    fn elements(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.heads) * u64::from(self.head_dim)
    }
}

impl Kernel for Rope {
    fn name(&self) -> String {
        let style = match self.style {
            RopeStyle::Interleaved => "interleaved",
            RopeStyle::NeoX => "neox",
        };
        let Self { rows, heads, head_dim, n_rot, max_seq, .. } = self;
        format!("rope_{style}_f32_h{heads}_d{head_dim}_r{n_rot}_m{max_seq}_b{rows}")
    }

    fn params(&self) -> Vec<Param> {
        // Pairs of the table, and the interleaved ones, are loaded together.
        let align =
            if self.style == RopeStyle::Interleaved && self.head_dim.is_multiple_of(2) { 8 } else { 4 };
        let table = u64::from(self.max_seq) * u64::from(self.n_rot);
        vec![
            f32_param("x", Access::Read, self.elements(), align),
            u32_param("positions", self.rows.into()),
            f32_param("table", Access::Read, table, 8),
            f32_param("y", Access::Write, self.elements(), align),
        ]
    }

    fn geometry(&self) -> LaunchGeometry {
        let blocks = self.items().div_ceil(THREADS.into()) as u32;
        LaunchGeometry { grid: [blocks, 1, 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let (rows, heads) = (u64::from(self.rows), u64::from(self.heads));
        Cost {
            bytes_read: self.elements() * 4 + rows * (4 + u64::from(self.n_rot) * 4),
            bytes_written: self.elements() * 4,
            operations: rows * heads * u64::from(self.pairs()) * 6,
        }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, [x, positions, table, y]| {
            let index = emit::flat_index(k, self.items(), THREADS);
            let (head, slot) = emit::split(k, index, self.items(), self.slots());
            let heads = u64::from(self.rows) * u64::from(self.heads);
            let (row, _) = emit::split(k, head, heads, self.heads);
            let [x, y] = [x, y].map(|base| k.ptr_index(base, head, self.head_dim * 4));
            let at = k.ptr_index(positions, row, 4);
            let rotate = |k: &mut KernelBuilder| {
                let position = k.ld_global::<U32>(at);
                self.rotate(k, Pair { x, y, table, position, pair: slot });
            };
            if self.slots() == self.pairs() {
                rotate(k);
            } else {
                let is_pair = k.lt(slot, self.pairs());
                k.if_else(is_pair, rotate, |k| {
                    k.comment("feature n_rot + slot - pairs is copied");
                    let feature = k.add(slot, self.n_rot - self.pairs());
                    let [x, y] = [x, y].map(|head| k.ptr_index(head, feature, 4));
                    let value = k.ld_global::<F32>(x);
                    k.st_global::<F32>(y, value);
                });
            }
        })
    }
}

/// The registers that a rotation starts from.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// The head's features.
    x: Reg<U64>,
    /// Where they go.
    y: Reg<U64>,
    table: Reg<U64>,
    position: Reg<U32>,
    pair: Reg<U32>,
}

impl Rope {
    fn rotate(&self, k: &mut KernelBuilder, pair: Pair) {
        let Pair { x, y, table, position, pair } = pair;
        k.comment("the table is read at position 0 where there is no such position");
        let known = k.lt(position, self.max_seq);
        let position = k.selp(known, position, 0);
        let entry = k.ptr_index(table, position, self.n_rot * 4);
        let entry = k.ptr_index(entry, pair, 8);
        let [cos, sin] = k.ld_global_v2::<F32>(entry).map(|v| k.selp(known, v, f32::NAN));

        let interleaved = self.style == RopeStyle::Interleaved;
        let together = interleaved && self.head_dim.is_multiple_of(2);
        let (step, distance) = if interleaved { (8, 4) } else { (4, self.pairs() as i32 * 4) };
        let [x, y] = [x, y].map(|head| k.ptr_index(head, pair, step));
        let [a, b] = match together {
            true => k.ld_global_v2::<F32>(x),
            false => [k.ld_global::<F32>(x), k.ld_global::<F32>(x + distance)],
        };
        let minus_b_sin = {
            let product = k.mul(b, sin);
            k.neg(product)
        };
        let first = k.fma(a, cos, minus_b_sin);
        let b_cos = k.mul(b, cos);
        let second = k.fma(a, sin, b_cos);
        if together {
            k.st_global_v2::<F32>(y, [first, second]);
        } else {
            k.st_global::<F32>(y, first);
            k.st_global::<F32>(y + distance, second);
        }
    }
}

/// The table `[max_seq, n_rot / 2, 2]` of cosines and sines for frequency base `theta`, made in f64.
fn table(max_seq: usize, n_rot: usize, theta: f64) -> Vec<f32> {
    let angle =
        |position: usize, pair: usize| position as f64 * theta.powf(-2.0 * pair as f64 / n_rot as f64);
    let angles = (0..max_seq).flat_map(|position| (0..n_rot / 2).map(move |pair| angle(position, pair)));
    angles.flat_map(|angle| [angle.cos() as f32, angle.sin() as f32]).collect()
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shape = |rows, heads, head_dim, n_rot, max_seq| RopeShape { rows, heads, head_dim, n_rot, max_seq };
    let shapes = [
        shape(2, 3, 64, 64, 32),
        shape(2, 3, 80, 32, 32),
        shape(1, 3, 33, 32, 32),
        shape(1, 32, 64, 64, 4096),
        shape(8, 32, 128, 128, 4096),
    ];
    let styles = [RopeStyle::Interleaved, RopeStyle::NeoX];
    shapes.into_iter().flat_map(|shape| styles.map(|style| boxed(Rope::new(style, shape)))).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let case = |style: RopeStyle, shape: RopeShape, positions: &[u32], data: &str, in_place: bool| {
        let kernel = known(Rope::new(style, shape));
        let x = Random::new(shape.head_dim as u64).f32s(kernel.elements() as usize);
        let table = table(shape.max_seq, shape.n_rot, 10_000.0);
        let y = kernel.reference(&x, positions, &table);
        let case = Case::new(kernel, data);
        let case = if in_place { case.with_alias("y", "x") } else { case };
        case.with_f32("x", &x).with_u32("positions", positions).with_f32("table", &table).expect_f32(
            "y",
            y,
            shape.head_dim,
            F32_BOUND,
        )
    };
    let mut cases = Vec::new();
    for style in [RopeStyle::Interleaved, RopeStyle::NeoX] {
        for rows in [1, 2, 5, 8, 9, 16, 32] {
            let shape = RopeShape { rows, heads: 4, head_dim: 64, n_rot: 64, max_seq: 300 };
            let positions: Vec<u32> = (0..rows as u32).map(|r| r * 37 % 300).collect();
            cases.push(case(style, shape, &positions, "", rows % 2 == 0));
        }
        let heads = [(2, 2), (3, 2), (33, 32), (64, 16), (80, 80), (80, 32), (96, 96), (128, 128), (256, 64)];
        for (head_dim, n_rot) in heads {
            let shape = RopeShape { rows: 3, heads: 3, head_dim, n_rot, max_seq: 2000 };
            cases.push(case(style, shape, &[1999, 0, 1024], "", false));
            cases.push(case(style, shape, &[5, 1998, 1], "", true));
        }
        let shape = RopeShape { rows: 4, heads: 2, head_dim: 80, n_rot: 64, max_seq: 10 };
        cases.push(case(style, shape, &[10, 9, u32::MAX, 1 << 31], "outside", false));
    }
    cases
}
