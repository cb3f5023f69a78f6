//! The shapes of the kernels, checked.

use ptx_builder::Target;
use tensor_formats::ElementType;

use super::geometry::{self, Items, MOST_PROCESSORS, PROCESSORS, Room, Spread};
use super::largest::Largest;
use super::ring::{EARLY, EARLY_OF_ATTENTION};
use super::stage::{MULTIPLE, Stage};
use super::tiles::TILE_UNITS;
use super::tuning::Tuning;
use super::{Destination, MAX_BATCH, Names, Pairing, Projection, Rotation, Segment, product, tiles};
use crate::blocks::WeightFormat;
use crate::blocks::tile::SLOT_ALIGN;
use crate::cache::Cache;
use crate::kernel::{LEAST_SHARED, shared_memory};
use crate::rope::RopeStyle;
use crate::support::{dim, dim_up_to, refuse};
use crate::{CacheShape, KernelError};

/// The most activation rows without tensor cores.
const MOST_DOTS: u32 = 4;

/// Warps of a block where tensor cores multiply, the best first.
const TILE_WARPS: [u32; 3] = [16, 12, 8];

/// Slots of a ring at most.
const MOST_SLOTS: u32 = 3;

/// The same where tensor cores multiply: two know where they are in every turn of an item, which has an even number.
const MOST_SLOTS_OF_TILES: u32 = 2;

/// Offsets from a thread's pointers are immediates of 31 bits.
pub(super) const MOST_ROWS: usize = 1 << 26;
pub(super) const MOST_COLS: usize = 1 << 17;

/// Columns of a [`Gemm`](super::Gemm) are whole turns of every format.
pub(super) const MULTIPLE_OF_GEMM: u32 = 128;

/// Norm, query, key and value: for each activation row `b`, with `n = x[b] / sqrt(mean(x[b]^2) + eps) * norm`,
/// `q[b] = rotate(wq n + bq)`; `rotate(wk n + bk)` and `wv n + bv` go to position `positions[b]` of sequence
/// `sequences[b]` of the caches. A row outside the caches writes nothing there; beyond the table it becomes NaNs.
///
/// Parameters: `x` `[batch, cols]` f32, `norm` `[cols]` f32, `wq` `[n_heads * head_dim, cols]`, `wk` and `wv`
/// `[n_kv_heads * head_dim, cols]`, with biases `bq`, `bk`, `bv` f32, `positions` and `sequences` `[batch]` u32, `table`
/// `[table_positions, head_dim / 2, 2]` f32 of (cos, sin), `q` `[batch, n_heads * head_dim]` f32, `k_cache` and `v_cache`
/// (see [`CacheShape`]).
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionInput(pub(super) Projection);

/// What an [`AttentionInput`] is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionInputShape {
    /// Activation rows.
    pub batch: usize,
    /// Features of an activation.
    pub cols: usize,
    /// Added to the mean square.
    pub eps: f32,
    /// Types of the weights of query, key and value.
    pub elements: [ElementType; 3],
    /// Query heads.
    pub n_heads: usize,
    /// Whether there are biases.
    pub bias: bool,
    /// Which features are rotated together. All of a head's features are.
    pub style: RopeStyle,
    /// Positions of the table of rotations.
    pub table_positions: usize,
    /// Key and value caches.
    pub cache: CacheShape,
}

/// `y[b] = residual[b] + w x[b] (+ bias)`.
///
/// Parameters: `x` `[batch, cols]` f32 (or [Q8Act](ResidualProjection::of_q8)), `w` `[rows, cols]`, `bias` `[rows]` f32 if there is one, `residual` and `y`
/// `[batch, rows]` f32; `y` may be `residual`.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualProjection(pub(super) Projection);

/// `y[b] = silu(gate n) * (up n)` with `n = x[b] / sqrt(mean(x[b]^2) + eps) * norm`.
///
/// Parameters: `x` `[batch, cols]` f32, `norm` `[cols]` f32, `gate` and `up` `[rows, cols]` of one type, `y`
/// `[batch, rows]` f32.
#[derive(Debug, Clone, PartialEq)]
pub struct GatedProjection(pub(super) Projection);

/// `y[b] = w n` with `n = x[b] / sqrt(mean(x[b]^2) + eps) * norm`.
///
/// Parameters: `x` `[batch, cols]` f32, `norm` `[cols]` f32, `w` `[rows, cols]`, `y` `[batch, rows]` f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Head(pub(super) Projection);

/// `y[b]` = the lowest `i` for which `w[i] n`, of [`Head`], is the largest, as [`Argmax`](crate::argmax::Argmax) has it.
///
/// Parameters: those of [`Head`], but `y` `[batch]` u32, and `best` ([`Access::Counter`](crate::Access::Counter)).
#[derive(Debug, Clone, PartialEq)]
pub struct GreedyHead(pub(super) Projection);

impl AttentionInput {
    /// The kernel for a shape.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a row is not whole blocks; [`KernelError::Unsupported`] for weights in F32, of 16 bits in
    /// other than whole tiles of sixteen rows, or of types that meet different activations, columns that are not a multiple
    /// of 128, an odd `head_dim`, heads that do not share key heads evenly, sizes out of range, or more activation rows than
    /// these weights [take](super::MAX_BATCH).
    pub fn new(shape: AttentionInputShape) -> Result<Self, KernelError> {
        const FAMILY: &str = "attention_input";
        let (name, segments) = attention_input(FAMILY, shape)?;
        let AttentionInputShape { batch, cols, eps, .. } = shape;
        Projection::new(FAMILY, &name, (batch, cols), Input::Normed(eps), segments).map(Self)
    }
}

/// The name and the segments of a kernel for `shape`.
pub(super) fn attention_input(
    family: &'static str,
    shape: AttentionInputShape,
) -> Result<(String, Vec<Segment>), KernelError> {
    let AttentionInputShape { cols, elements, n_heads, bias, style, table_positions, .. } = shape;
    let cache = Cache::new(family, shape.cache)?;
    let n_heads = dim(family, "n_heads", n_heads)?;
    if !cache.head_dim.is_multiple_of(2) || !n_heads.is_multiple_of(cache.n_kv_heads) {
        let Cache { n_kv_heads, head_dim, .. } = cache;
        let reason = format!("{n_heads} heads of {head_dim} features on {n_kv_heads} key heads");
        return Err(refuse(family, reason));
    }
    let max_seq = dim(family, "table_positions", table_positions)?;
    let head_dim = cache.head_dim;
    let rotated = match style {
        RopeStyle::Interleaved => Pairing::Neighbours,
        RopeStyle::NeoX => Pairing::Halves { head_dim },
    };
    let rotation = Some(Rotation { head_dim, max_seq });
    let part = |index: usize, heads: u32, pairing, rotation, names, destination| {
        let rows = heads as usize * head_dim as usize;
        let segment = segment(family, elements[index], (rows, cols), pairing, names, destination)?;
        Ok::<_, KernelError>(Segment { bias, rotation, ..segment })
    };
    const QUERY: Names = Names { matrices: &["wq"], bias: "bq", output: "q" };
    const KEY: Names = Names { matrices: &["wk"], bias: "bk", output: "k_cache" };
    const VALUE: Names = Names { matrices: &["wv"], bias: "bv", output: "v_cache" };
    let cached = Destination::Cache(cache);
    let segments = vec![
        part(0, n_heads, rotated, rotation, QUERY, Destination::Rows)?,
        part(1, cache.n_kv_heads, rotated, rotation, KEY, cached)?,
        part(2, cache.n_kv_heads, Pairing::Neighbours, None, VALUE, cached)?,
    ];
    let types = elements.map(|element| element.name().to_lowercase()).join("_");
    let style = match style {
        RopeStyle::Interleaved => "interleaved",
        RopeStyle::NeoX => "neox",
    };
    let bias = if bias { "_bias" } else { "" };
    let stored = cache.stored.name();
    let name = format!("{types}_n{cols}_h{n_heads}_{stored}_{}_{style}{bias}_t{max_seq}", cache.name());
    Ok((name, segments))
}

impl ResidualProjection {
    /// The kernel for a matrix `[rows, cols]` of type `element` and `batch` activation rows.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a row is not whole blocks; [`KernelError::Unsupported`] for weights in F32, or of 16 bits
    /// in other than whole tiles of sixteen rows, columns that are not a multiple of 128, an odd number of rows, sizes out of
    /// range, or more activation rows than these weights [take](super::MAX_BATCH).
    pub fn new(
        element: ElementType,
        (rows, cols): (usize, usize),
        batch: usize,
        bias: bool,
    ) -> Result<Self, KernelError> {
        Self::of_input(element, (rows, cols), batch, bias, Input::F32)
    }

    /// The same for activations that are quantised already, `x` `[batch, cols]` Q8Act, with the same results. Every block
    /// reads all activations: those of several long rows are better quantised once.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_q8(
        element: ElementType,
        (rows, cols): (usize, usize),
        batch: usize,
        bias: bool,
    ) -> Result<Self, KernelError> {
        Self::of_input(element, (rows, cols), batch, bias, Input::Q8)
    }

    /// As [`new`](Self::new), for activations that attention makes, with the same results: attention of one row leaves the
    /// memory time for more weights.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_attention(
        element: ElementType,
        (rows, cols): (usize, usize),
        batch: usize,
        bias: bool,
    ) -> Result<Self, KernelError> {
        let input = if batch == 1 { Input::Attended } else { Input::F32 };
        Self::of_input(element, (rows, cols), batch, bias, input)
    }

    /// Whether the same with activations that [are quantised already](Self::of_q8), and the launch that quantises them,
    /// is faster on the devices that it is made for.
    pub fn prefers_q8(&self) -> bool {
        self.0.stage.batch * self.0.stage.block_cols >= Tuning::of(self.0.target).quantised_from
    }

    fn of_input(
        element: ElementType,
        (rows, cols): (usize, usize),
        batch: usize,
        bias: bool,
        input: Input,
    ) -> Result<Self, KernelError> {
        const FAMILY: &str = "residual_projection";
        let (shape, segments) = residual_projection(FAMILY, element, (rows, cols), bias)?;
        let of = match input {
            Input::Q8 => "q8_",
            Input::Attended => "attended_",
            Input::F32 | Input::Normed(_) => "",
        };
        Projection::new(FAMILY, &format!("{of}{shape}"), (batch, cols), input, segments).map(Self)
    }
}

/// The name and the segment of a matrix whose results are added to a residual.
pub(super) fn residual_projection(
    family: &'static str,
    element: ElementType,
    (rows, cols): (usize, usize),
    bias: bool,
) -> Result<(String, Vec<Segment>), KernelError> {
    const NAMES: Names = Names { matrices: &["w"], bias: "bias", output: "y" };
    let segment = segment(family, element, (rows, cols), Pairing::Neighbours, NAMES, Destination::Rows)?;
    let bias_name = if bias { "_bias" } else { "" };
    let name = format!("{}_{rows}x{cols}{bias_name}", element.name().to_lowercase());
    Ok((name, vec![Segment { bias, residual: true, ..segment }]))
}

/// What the activations are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Input {
    F32,
    /// f32 of attention.
    Attended,
    Q8,
    /// f32, to be normalised with this added to the mean square.
    Normed(f32),
}

impl GatedProjection {
    /// The kernel for two matrices `[rows, cols]` of type `element` and `batch` activation rows.
    ///
    /// # Errors
    /// As [`ResidualProjection::new`], but that any number of rows will do for up to four activation rows.
    pub fn new(
        element: ElementType,
        (rows, cols): (usize, usize),
        batch: usize,
        eps: f32,
    ) -> Result<Self, KernelError> {
        const FAMILY: &str = "gated_projection";
        let (name, segments) = gated_projection(FAMILY, element, (rows, cols))?;
        Projection::new(FAMILY, &name, (batch, cols), Input::Normed(eps), segments).map(Self)
    }
}

/// The name and the segment of two matrices.
pub(super) fn gated_projection(
    family: &'static str,
    element: ElementType,
    (rows, cols): (usize, usize),
) -> Result<(String, Vec<Segment>), KernelError> {
    const NAMES: Names = Names { matrices: &["gate", "up"], bias: "", output: "y" };
    let segment = segment(family, element, (rows, cols), Pairing::Matrices, NAMES, Destination::Gated)?;
    Ok((format!("{}_{rows}x{cols}", element.name().to_lowercase()), vec![segment]))
}

impl Head {
    /// The kernel for a matrix `[rows, cols]` of type `element` and `batch` activation rows.
    ///
    /// # Errors
    /// As [`ResidualProjection::new`].
    pub fn new(
        element: ElementType,
        (rows, cols): (usize, usize),
        batch: usize,
        eps: f32,
    ) -> Result<Self, KernelError> {
        head("head", element, (rows, cols), (batch, eps), Destination::Rows).map(Self)
    }
}

impl GreedyHead {
    /// The kernel for a matrix `[rows, cols]` of type `element` and `batch` activation rows.
    ///
    /// # Errors
    /// As [`ResidualProjection::new`].
    pub fn new(
        element: ElementType,
        (rows, cols): (usize, usize),
        batch: usize,
        eps: f32,
    ) -> Result<Self, KernelError> {
        head("greedy_head", element, (rows, cols), (batch, eps), Destination::Largest).map(Self)
    }
}

fn head(
    family: &'static str,
    element: ElementType,
    shape: (usize, usize),
    (batch, eps): (usize, f32),
    destination: Destination,
) -> Result<Projection, KernelError> {
    let (name, segments) = head_segments(family, element, shape, destination)?;
    Projection::new(family, &name, (batch, shape.1), Input::Normed(eps), segments)
}

/// The name and the segment of a matrix whose results go to `destination`.
pub(super) fn head_segments(
    family: &'static str,
    element: ElementType,
    (rows, cols): (usize, usize),
    destination: Destination,
) -> Result<(String, Vec<Segment>), KernelError> {
    const NAMES: Names = Names { matrices: &["w"], bias: "", output: "y" };
    let segment = segment(family, element, (rows, cols), Pairing::Neighbours, NAMES, destination)?;
    Ok((format!("{}_{rows}x{cols}", element.name().to_lowercase()), vec![segment]))
}

/// A segment of `rows` results without bias, residual and rotation.
fn segment(
    family: &'static str,
    element: ElementType,
    (rows, cols): (usize, usize),
    pairing: Pairing,
    names: Names,
    destination: Destination,
) -> Result<Segment, KernelError> {
    let matrix_bytes = element.matrix_bytes(rows, cols)? as u64;
    let format = WeightFormat::of(element).filter(|format| *format != WeightFormat::F32);
    let Some(format) = format else { return Err(refuse(family, format!("weights of type {element}"))) };
    let rows = dim_up_to(family, "rows", rows, MOST_ROWS)?;
    let units = match pairing {
        Pairing::Matrices => rows,
        Pairing::Neighbours | Pairing::Halves { .. } if rows.is_multiple_of(2) => rows / 2,
        _ => return Err(refuse(family, format!("{rows} rows, which are not pairs"))),
    };
    Ok(Segment {
        element,
        format,
        units,
        matrix_bytes,
        pairing,
        names,
        bias: false,
        residual: false,
        rotation: None,
        destination,
    })
}

impl Projection {
    fn new(
        family: &'static str,
        name: &str,
        (batch, cols): (usize, usize),
        input: Input,
        segments: Vec<Segment>,
    ) -> Result<Self, KernelError> {
        let cols = dim_up_to(family, "cols", cols, MOST_COLS)?;
        let batch = dim_up_to(family, "batch", batch, MAX_BATCH)?;
        if !cols.is_multiple_of(MULTIPLE) {
            return Err(refuse(family, format!("{cols} columns, which are not a multiple of {MULTIPLE}")));
        }
        let eps = match input {
            Input::Normed(eps) => Some(eps),
            Input::F32 | Input::Attended | Input::Q8 => None,
        };
        if eps.is_some_and(|eps| !(eps.is_finite() && eps >= 0.0)) {
            return Err(refuse(family, "eps is negative or not finite".into()));
        }
        let suffix = eps.map_or_else(String::new, |eps| format!("_eps{:08x}", eps.to_bits()));
        let name = format!("{family}_{name}{suffix}_b{batch}");
        let quantised = input == Input::Q8;
        let early = if input == Input::Attended { EARLY_OF_ATTENTION } else { EARLY };
        let group_sums = segments.iter().any(|segment| segment.format.has_offset());
        let factor = segments[0].format.factor();
        if segments.iter().any(|segment| segment.format.factor() != factor) {
            let types: Vec<_> = segments.iter().map(|segment| segment.element.to_string()).collect();
            let reason = format!("weights of types {}, which meet different activations", types.join(", "));
            return Err(refuse(family, reason));
        }
        if quantised && factor.is_some() {
            let reason = format!("quantised activations and weights of type {}", segments[0].element);
            return Err(refuse(family, reason));
        }
        let stage = Stage {
            cols,
            batch,
            eps,
            early,
            tiles: false,
            quantised,
            group_sums,
            factor,
            cluster: 1,
            block_cols: cols,
        };
        Self::over((PROCESSORS, Target::SM_90), (family, name), stage, segments)
    }

    /// The same spread over so many processors of `target`.
    pub(super) fn on(self, processors: u32, target: Target) -> Result<Self, KernelError> {
        let stage = Stage { tiles: false, cluster: 1, block_cols: self.stage.cols, ..self.stage };
        Self::over((processors, target), (self.family, self.name), stage, self.segments)
    }

    /// The kernel for `stage`, which is one for single blocks without tensor cores, or a better one.
    fn over(
        (processors, target): (u32, Target),
        (family, name): (&'static str, String),
        stage: Stage,
        segments: Vec<Segment>,
    ) -> Result<Self, KernelError> {
        let Stage { cols, batch, .. } = stage;
        let (shared, tuning) = (shared_memory(target), Tuning::of(target));
        if !(1..=MOST_PROCESSORS).contains(&processors) {
            return Err(refuse(family, format!("{processors} processors")));
        }
        let with = |stage, spread| {
            let (name, segments) = (name.clone(), segments.clone());
            Self { family, name, processors, target, stage, segments, spread, ring_bytes: 0 }
        };
        let tiled = segments.iter().all(|segment| tiles::copies(segment, cols));
        let of_tiles = |(room, warps): (Room, u32)| {
            let spread = Spread::of_tiles(&segments, stage, (processors, warps), room)?;
            let Items { cluster, cols: block_cols, .. } = spread.items?;
            let stage = Stage { tiles: true, cluster, block_cols, ..stage };
            let slot_bytes = segments.iter().map(|segment| segment.format.slot_bytes()).max()?;
            with(stage, spread).with_ring(slot_bytes, shared)
        };
        if stage.factor.is_some() {
            let ways = Room::of_halves().flat_map(|room| TILE_WARPS.map(|warps| (room, warps)));
            let ways = ways.filter(|_| tiled);
            let kernels = ways.filter_map(of_tiles).filter(|kernel| kernel.min_target() <= target);
            let reason = || {
                let tiles = if tiled { "" } else { " that are not whole tiles" };
                format!("{batch} rows of {cols} columns, and weights of 16 bits{tiles}, on {target}")
            };
            return kernels.min_by_key(Self::slowness).ok_or_else(|| refuse(family, reason()));
        }
        let mut needs = None;
        if batch >= tuning.first_tile_batch && tiled {
            let first = |room| TILE_WARPS.iter().find_map(|&warps| of_tiles((room, warps)));
            let best = Room::WAYS.into_iter().filter_map(first).min_by_key(Self::slowness);
            match best.or_else(|| first(Room::LAST)) {
                Some(of_tiles) if of_tiles.min_target() <= target => return Ok(of_tiles),
                of_tiles => needs = of_tiles.map(|of_tiles| of_tiles.min_target()),
            }
        }
        if batch > MOST_DOTS {
            let reason = match needs {
                Some(needs) => {
                    format!(
                        "which with {cols} columns and {processors} processors needs {needs}, not {target}"
                    )
                }
                None if tiled => format!("for which {target} has no room with {cols} columns"),
                None => format!(
                    "in whole tiles of {TILE_UNITS} pairs of weight rows, of each head where its halves are rotated"
                ),
            };
            let most = format!("more than {MOST_DOTS} are multiplied on tensor cores");
            return Err(refuse(family, format!("{batch} activation rows: {most}, {reason}")));
        }
        let Some(spread) = Spread::new(&segments, stage, processors) else {
            return Err(refuse(
                family,
                format!("rows of {cols} columns are too long for the warps of a block"),
            ));
        };
        let bytes = |segment: &Segment| product::slot_bytes(segment, &spread, stage);
        let slot_bytes = segments.iter().map(bytes).fold(0, u32::max);
        let few = geometry::bytes_each(&segments, processors) < tuning.long_rings_from;
        with(stage, spread)
            .with_ring(slot_bytes, if few { LEAST_SHARED } else { shared })
            .ok_or_else(|| refuse(family, format!("{batch} rows of {cols} columns exceed the shared memory")))
    }

    /// What the best of several ways to multiply tiles has the least of: whether a warp has one slot, and does not copy while it
    /// multiplies; how long the block takes that has the most to do, about; and, among equals, blocks that wait for each other,
    /// and turns of a warp.
    fn slowness(&self) -> impl Ord + use<> {
        let slot = self.segments.iter().map(|segment| segment.format.slot_bytes()).fold(0, u32::max);
        let (segments, spread, stage) = (self.segments.iter().enumerate(), &self.spread, &self.stage);
        let weights = segments.clone().map(|(i, segment)| spread.share(segment, i).most_bytes(segment));
        let turns = segments.map(|(i, segment)| spread.turns_of_warp(segment, i, stage.cols));
        let weights = weights.fold(0, u64::max);
        let activations = u64::from(stage.batch * stage.block_cols * 4);
        let others = u64::from(spread.cluster() - 1);
        let rounds = u64::from(stage.rounds(spread.warps()));
        let tuning = Tuning::of(self.target);
        let costs = if stage.factor.is_some() { tuning.halves } else { tuning.quantised };
        (
            self.ring_bytes < MOST_SLOTS_OF_TILES * slot,
            costs.of_block(weights, activations, others, rounds),
            spread.cluster(),
            turns.fold(0, u32::max),
        )
    }

    /// Bytes of shared memory before the rings: sums of squares, what warps offer, and a barrier object. Rings begin on a
    /// multiple after them.
    pub(super) fn static_shared(&self) -> u32 {
        let largest = self.segments.iter().any(|segment| segment.destination == Destination::Largest);
        let offers = if largest { Largest::bytes(self.sum_rows(), self.spread.warps()) } else { 0 };
        ((self.stage.sums() * 4).next_multiple_of(16) + offers + 8).next_multiple_of(SLOT_ALIGN)
    }

    /// The same with rings of as many slots as `most` bytes of shared memory have room for; `None` for none.
    fn with_ring(self, slot_bytes: u32, most: u32) -> Option<Self> {
        let others = self.static_shared() + self.stage.bytes() + self.sums_bytes();
        let slots = most.saturating_sub(others) / (self.spread.warps() * slot_bytes).max(1);
        let slots = slots.min(if self.stage.tiles { MOST_SLOTS_OF_TILES } else { MOST_SLOTS });
        (slots > 0).then_some(Self { ring_bytes: slots * slot_bytes, ..self })
    }
}
