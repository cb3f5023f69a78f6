//! What tools iterate over, and the conformance cases.

use ptx_builder::Target;
use tensor_formats::{ElementType, quantize_row, to_planes};

use super::{
    AttentionInput, AttentionInputShape, AttentionInputs, GatedProjection, Gemm, GreedyHead, HalfRows, Head,
    PROCESSORS, ResidualProjection,
};
use crate::cases::{Case, Expect, F32_BOUND, Invariance};
use crate::random::Random;
use crate::rope::RopeStyle;
use crate::stored::Stored;
use crate::support::{boxed, known};
use crate::{CacheShape, Kernel, KernelError};

/// What makes a residual projection.
type NewResidual = fn(ElementType, (usize, usize), usize, bool) -> Result<ResidualProjection, KernelError>;

/// The relative error after rounding to half precision: 2^-9 of each value for bf16.
const HALF_BOUND: f64 = 4e-3;

/// The same after rounding to bytes: 2^-4 of each value.
const BYTE_BOUND: f64 = 6e-2;

pub(super) const EPS: f32 = 1e-5;

pub(super) const QUANTISED: [ElementType; 5] =
    [ElementType::Q4_0, ElementType::Q8_0, ElementType::Q4_K, ElementType::Q5_K, ElementType::Q6_K];

/// What tensor cores multiply as it is.
pub(super) const HALVES: [ElementType; 2] = [ElementType::F16, ElementType::BF16];

const Q4: ElementType = ElementType::Q4_K;
const Q6: ElementType = ElementType::Q6_K;
const Q8: ElementType = ElementType::Q8_0;

/// The kernels of this family that tools iterate over: small ones, and those of real models.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let mut kernels: Vec<Box<dyn Kernel>> = Vec::new();
    for element in QUANTISED.into_iter().chain(HALVES) {
        for batch in [1, 3, 8] {
            kernels.push(boxed(ResidualProjection::new(element, (64, 512), batch, false)));
            kernels.push(boxed(GatedProjection::new(element, (64, 512), batch, EPS)));
            kernels.push(boxed(Head::new(element, (64, 512), batch, EPS)));
            kernels.push(boxed(GreedyHead::new(element, (64, 512), batch, EPS)));
        }
    }
    for (style, bias) in [(RopeStyle::Interleaved, false), (RopeStyle::NeoX, true)] {
        kernels.push(boxed(AttentionInput::new(small_attention(style, bias, 3))));
        kernels.push(boxed(AttentionInput::new(small_attention(style, bias, 8))));
    }
    let model = |n_heads, n_kv_heads, head_dim, style, bias| AttentionInputShape {
        batch: 1,
        cols: n_heads * head_dim,
        eps: EPS,
        elements: [Q4, Q4, Q6],
        n_heads,
        bias,
        style,
        table_positions: 4096,
        cache: CacheShape { n_sequences: 1, n_kv_heads, max_seq: 4096, head_dim, element: ElementType::F32 },
    };
    for shape in [
        model(12, 2, 128, RopeStyle::NeoX, true),
        model(32, 8, 64, RopeStyle::Interleaved, false),
        model(32, 8, 128, RopeStyle::Interleaved, false),
    ] {
        kernels.push(boxed(AttentionInput::new(shape)));
        kernels.push(boxed(AttentionInput::new(AttentionInputShape { elements: [Q4; 3], ..shape })));
    }
    for (cols, hidden, vocab) in [(1536, 8960, 151_936), (2048, 8192, 128_256), (4096, 14336, 128_256)] {
        kernels.push(boxed(ResidualProjection::of_attention(Q4, (cols, cols), 1, false)));
        kernels.push(boxed(GatedProjection::new(Q4, (hidden, cols), 1, EPS)));
        kernels.push(boxed(ResidualProjection::new(Q4, (cols, hidden), 1, false)));
        kernels.push(boxed(ResidualProjection::new(Q6, (cols, hidden), 1, false)));
        kernels.push(boxed(Head::new(Q6, (vocab, cols), 1, EPS)));
        kernels.push(boxed(GreedyHead::new(Q6, (vocab, cols), 1, EPS)));
    }
    for batch in [2, 4, 8] {
        let model = model(32, 8, 128, RopeStyle::Interleaved, false);
        kernels.push(boxed(AttentionInput::new(AttentionInputShape { batch, ..model })));
        kernels.push(boxed(ResidualProjection::new(Q4, (4096, 4096), batch, false)));
        kernels.push(boxed(GatedProjection::new(Q4, (14336, 4096), batch, EPS)));
        for new in [ResidualProjection::new, ResidualProjection::of_q8] {
            kernels.push(boxed(new(Q4, (4096, 14336), batch, false)));
            kernels.push(boxed(new(Q6, (4096, 14336), batch, false)));
        }
        kernels.push(boxed(Head::new(Q6, (128_256, 4096), batch, EPS)));
        kernels.push(boxed(GreedyHead::new(Q6, (128_256, 4096), batch, EPS)));
    }
    for (batch, [f16, _]) in [1, 4, 8].map(|batch| (batch, HALVES)) {
        let model =
            AttentionInputShape { elements: [f16; 3], ..model(32, 8, 64, RopeStyle::Interleaved, false) };
        kernels.push(boxed(AttentionInput::new(AttentionInputShape { batch, ..model })));
        kernels.push(boxed(ResidualProjection::of_attention(f16, (2048, 2048), batch, false)));
        kernels.push(boxed(GatedProjection::new(f16, (14336, 4096), batch, EPS)));
        kernels.push(boxed(ResidualProjection::new(f16, (2048, 8192), batch, false)));
        kernels.push(boxed(GreedyHead::new(f16, (128_256, 2048), batch, EPS)));
    }
    // Many rows: few of them, and as many as a block has and more.
    for element in QUANTISED.into_iter().chain(HALVES) {
        kernels.push(boxed(Gemm::residual_projection(element, (144, 512), 24, true)));
        kernels.push(boxed(Gemm::gated_projection(element, (64, 512), 160)));
    }
    for (style, bias) in [(RopeStyle::Interleaved, false), (RopeStyle::NeoX, true)] {
        kernels.push(boxed(Gemm::attention_input(small_attention(style, bias, 16))));
    }
    kernels.push(boxed(Gemm::head(Q6, (128_256, 4096), 32)));
    for batch in [1, 32, 512] {
        let model = model(32, 8, 128, RopeStyle::Interleaved, false);
        kernels.push(boxed(Gemm::attention_input(AttentionInputShape { batch, ..model })));
        kernels.push(boxed(Gemm::residual_projection(Q4, (4096, 4096), batch, false)));
        kernels.push(boxed(Gemm::residual_projection(Q6, (4096, 14336), batch, false)));
        kernels.push(boxed(Gemm::gated_projection(Q4, (14336, 4096), batch)));
        kernels.push(boxed(HalfRows::new(batch, 4096, Some(EPS))));
        kernels.push(boxed(HalfRows::new(batch, 14336, None)));
        kernels.push(boxed(Gemm::gated_projection(ElementType::F16, (8192, 2048), batch)));
    }
    kernels.push(boxed(HalfRows::new(24, 2048, Some(EPS)).map(|rows| rows.of_weights(ElementType::BF16))));
    kernels.push(boxed(HalfRows::new(3, 18_944, Some(EPS))));
    // Qwen2.5 7B, whose columns the blocks of a cluster do not share evenly, and are as many warps' as two slots have.
    kernels.push(boxed(ResidualProjection::of_q8(Q4, (3584, 18_944), 1, false)));
    kernels.push(boxed(ResidualProjection::of_q8(Q6, (3584, 18_944), 1, false)));
    for batch in [1, 2, 8] {
        kernels.push(boxed(ResidualProjection::of_q8(Q8, (3584, 18_944), batch, false)));
    }
    kernels.push(boxed(GatedProjection::new(Q4, (18_944, 3584), 8, EPS)));
    kernels.push(boxed(ResidualProjection::new(Q4, (3584, 18_944), 8, false)));
    kernels.push(boxed(ResidualProjection::of_q8(Q6, (3584, 18_944), 8, false)));
    kernels
}

/// Two query heads a key head, three sequences of 20 positions.
pub(super) fn small_attention(style: RopeStyle, bias: bool, batch: usize) -> AttentionInputShape {
    AttentionInputShape {
        batch,
        cols: 256,
        eps: EPS,
        elements: [Q4, Q8, Q6],
        n_heads: 4,
        bias,
        style,
        table_positions: 24,
        cache: CacheShape {
            n_sequences: 3,
            n_kv_heads: 2,
            max_seq: 20,
            head_dim: 32,
            element: ElementType::F32,
        },
    }
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Rows, columns, batch, processors: one unit; several warps a row; a last step for some lanes.
    let on_cores = [
        (2, 256, 1, PROCESSORS),
        (38, 768, 3, PROCESSORS),
        (64, 1536, 2, PROCESSORS),
        (6, 8960, 3, PROCESSORS),
        // More turns a warp than slots.
        (270, 768, 1, 2),
        (278, 1536, 2, 2),
        (540, 768, 3, 2),
        (40, 8960, 2, 1),
        // Bundles: of eight units, for one row and two, of four, and of two; not whole rounds of the block's slots.
        (272, 768, 1, 2),
        (272, 768, 2, 2),
        (132, 1536, 1, 2),
        (76, 3072, 1, 2),
        // So few warps that there is room for another slot.
        (48, 256, 2, 1),
        (48, 256, 3, 1),
        // More units than are finished at once.
        (1040, 256, 1, 1),
        (1100, 256, 2, 2),
    ];
    // On tensor cores: one tile; rows of several items and warps, the last ones not full; activations in several rounds.
    let on_tensor_cores = [
        (16, 256, 8, PROCESSORS),
        (48, 768, 4, PROCESSORS),
        (64, 1536, 8, PROCESSORS),
        (16, 4096, 8, PROCESSORS),
        (16, 8960, 5, PROCESSORS),
        (16, 8960, 7, PROCESSORS),
        // More tiles than blocks, and more items than warps.
        (560, 256, 6, 2),
        (1120, 512, 5, 2),
        // Columns shared by the blocks of clusters of two and of four, more tiles than blocks and fewer.
        (112, 1024, 6, PROCESSORS),
        (64, 2048, 4, PROCESSORS),
        (272, 2048, 8, PROCESSORS),
        (112, 12_288, 7, PROCESSORS),
        (560, 1024, 5, 4),
        (560, 2048, 8, 8),
        // The last block of a cluster has an item less, one that is not full, and both.
        (64, 3584, 8, PROCESSORS),
        (64, 1792, 7, PROCESSORS),
        (64, 5376, 6, PROCESSORS),
        (112, 3840, 4, PROCESSORS),
        (400, 3840, 5, 2),
    ];
    for (seed, (rows, cols, batch, processors)) in (0..).zip(on_cores.into_iter().chain(on_tensor_cores)) {
        for element in QUANTISED {
            let data = Data { processors, ..Data::new(element, rows, cols, batch, seed) }.with_specials();
            cases.push(data.head(0..batch));
            cases.push(data.greedy_head(0..batch));
            cases.push(data.gated(0..batch));
            cases.push(data.residual(batch % 2 == 1, 0..batch));
            if batch == 1 {
                cases.push(data.residual_with(ResidualProjection::of_attention, true, 0..1));
            }
            if [Q4, Q6].contains(&element) {
                cases.push(data.residual_q8(0..batch));
            }
        }
    }
    let of_few_rows = [
        (16, 256, 1, PROCESSORS),
        (48, 768, 2, PROCESSORS),
        (272, 2048, 1, PROCESSORS),
        (1120, 512, 1, 2),
        (64, 3584, 3, PROCESSORS),
        (64, 384, 2, PROCESSORS),
    ];
    for (seed, (rows, cols, batch, processors)) in (50..).zip(on_tensor_cores.into_iter().chain(of_few_rows))
    {
        let element = HALVES[seed as usize % 2];
        let data = Data { processors, ..Data::new(element, rows, cols, batch, seed) }.with_specials();
        cases.push(data.head(0..batch));
        cases.push(data.greedy_head(0..batch));
        cases.push(data.gated(0..batch));
        cases.push(data.residual_with(ResidualProjection::of_attention, batch % 2 == 1, 0..batch));
    }
    for (rows, cols, batch) in [(6, 14_336, 2), (80, 4096, 8)] {
        cases.push(Data::new(Q4, rows, cols, batch, 12).residual_q8(0..batch));
    }
    // Slots of ten warps, two of them.
    cases.push(Data { processors: 2, ..Data::new(Q6, 20, 18_944, 1, 14) }.residual_q8(0..1));
    // One of nineteen; two parts for a lane.
    cases.push(Data::new(Q8, 6, 18_944, 1, 15).residual(true, 0..1));
    cases.push(Data::new(Q8, 6, 25_600, 2, 16).residual(false, 0..2));
    // Columns that are no whole blocks of the large formats.
    cases.push(Data::new(ElementType::Q4_0, 48, 384, 6, 10).residual(true, 0..6));
    cases.push(Data::new(ElementType::Q8_0, 34, 384, 2, 9).residual(true, 0..2));
    let positions = [19, 0, 7, 19, 20, 23, 24, u32::MAX];
    let sequences = [2, 0, 1, 0, 1, 0, 2, 1];
    for style in [RopeStyle::Interleaved, RopeStyle::NeoX] {
        for (bias, rows) in [(false, 0..1), (true, 0..3), (true, 4..8), (true, 0..8)] {
            let shape = small_attention(style, bias, rows.len());
            cases.push(attention(
                shape,
                PROCESSORS,
                &positions[rows.clone()],
                &sequences[rows.clone()],
                rows,
            ));
        }
        let shape = AttentionInputShape {
            cols: 1536,
            n_heads: 14,
            elements: [Q4, Q4, Q4],
            cache: CacheShape {
                n_sequences: 1,
                n_kv_heads: 2,
                max_seq: 9,
                head_dim: 64,
                element: ElementType::F32,
            },
            ..small_attention(style, true, 2)
        };
        // More turns and items than slots and warps.
        for (batch, elements) in
            [(1, [Q4, Q8, Q6]), (2, [Q4; 3]), (2, [Q4, Q8, Q6]), (5, [Q4, Q8, Q6]), (5, [Q4; 3])]
        {
            let shape = AttentionInputShape { batch, elements, ..shape };
            cases.push(attention(shape, 4, &[8, 2, 9, 0, 1][..batch], &[0; 5][..batch], 0..batch));
        }
        for (batch, [f16, bf16]) in [(1, HALVES), (5, HALVES)] {
            for elements in [[f16; 3], [bf16; 3]] {
                let shape = AttentionInputShape { batch, elements, ..shape };
                cases.push(attention(
                    shape,
                    PROCESSORS,
                    &[8, 2, 9, 0, 1][..batch],
                    &[0; 5][..batch],
                    0..batch,
                ));
            }
        }
        cases.push(attention(shape, PROCESSORS, &[8, 9], &[0, 0], 0..2));
        cases.push(attention(AttentionInputShape { batch: 1, ..shape }, PROCESSORS, &[3], &[1], 0..1));
        for element in [ElementType::F16, ElementType::BF16, ElementType::F8E4M3] {
            let cache = CacheShape { element, ..shape.cache };
            cases.push(attention(AttentionInputShape { cache, ..shape }, PROCESSORS, &[8, 2], &[0, 0], 0..2));
        }
    }
    cases
}

/// Batches against their first and last rows alone, and many processors against few.
pub(crate) fn invariances() -> Vec<Invariance> {
    let mut invariances = Vec::new();
    let halves = HALVES.map(|element| Data::new(element, 80, 1536, 8, 4));
    let mut add = |features: usize, batch: usize, row: usize, param, left: Case, right: Case| {
        let name = format!("{}/row{row}_of_{batch}_alone", left.kernel.name());
        let left_bytes = row * features * 4..(row + 1) * features * 4;
        invariances.push(Invariance { name, left, right, param, left_bytes, right_bytes: 0..features * 4 });
    };
    for element in QUANTISED {
        let data = Data::new(element, 80, 1536, 8, 3);
        for (batch, row) in [(3, 0), (3, 2), (4, 3), (5, 4), (8, 0), (8, 7)] {
            let one = row..row + 1;
            add(80, batch, row, "y", data.residual(true, 0..batch), data.residual(true, one.clone()));
            add(80, batch, row, "y", data.gated(0..batch), data.gated(one.clone()));
            add(80, batch, row, "y", data.head(0..batch), data.head(one.clone()));
            add(1, batch, row, "y", data.greedy_head(0..batch), data.greedy_head(one));
        }
        for batch in [1, 2, 8] {
            let on = |processors| Data { processors, ..data.clone() }.gated(0..batch);
            add(80, batch, 0, "y", on(PROCESSORS), on(3));
            // In bundles. Two rows of the larger formats would have rings that few devices have room for.
            if batch == 1 || element == Q4 {
                add(80, batch, 0, "y", on(PROCESSORS), on(1));
            }
        }
        let long = Data::new(element, 32, 14336, 8, 5);
        for (batch, row) in [(2, 1), (8, 6)] {
            let alone = long.residual(false, row..row + 1);
            add(32, batch, row, "y", long.residual(false, 0..batch), alone);
        }
        for (batch, row) in [(1, 0), (2, 1), (4, 0), (8, 5)] {
            let alone = long.residual(false, row..row + 1);
            add(32, batch, row, "y", long.residual_q8(0..batch), alone);
        }
    }
    for data in &halves {
        for (batch, row) in [(2, 1), (4, 3), (5, 0), (8, 7)] {
            let one = row..row + 1;
            add(80, batch, row, "y", data.residual(true, 0..batch), data.residual(true, one.clone()));
            add(80, batch, row, "y", data.gated(0..batch), data.gated(one.clone()));
            add(1, batch, row, "y", data.greedy_head(0..batch), data.greedy_head(one));
        }
        for batch in [1, 8] {
            let on = |processors| Data { processors, ..data.clone() }.gated(0..batch);
            add(80, batch, 0, "y", on(PROCESSORS), on(3));
        }
    }
    // More than sixteen warps a row.
    let longer = Data::new(Q8, 32, 18_944, 8, 6);
    for (batch, row) in [(2, 1), (4, 0), (8, 6)] {
        let alone = longer.residual(false, row..row + 1);
        add(32, batch, row, "y", longer.residual_q8(0..batch), alone);
    }
    let case = |rows: std::ops::Range<usize>| {
        let shape = small_attention(RopeStyle::NeoX, true, rows.len());
        let (positions, sequences) = ([3, 5, 19, 1, 2, 4, 8, 9], [0, 1, 2, 0, 0, 1, 1, 2]);
        attention(shape, PROCESSORS, &positions[rows.clone()], &sequences[rows.clone()], rows)
    };
    add(128, 3, 2, "q", case(0..3), case(2..3));
    add(128, 8, 2, "q", case(0..8), case(2..3));
    invariances
}

/// Random bytes that are valid blocks in GGUF's layout: the f16 scales, or weights, are finite, below 2, and not tiny.
pub(super) fn weights(element: ElementType, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let bytes = known(element.matrix_bytes(rows, cols).map_err(KernelError::from));
    let mut weights = random.bytes(bytes);
    let halves: &[usize] = match element {
        ElementType::Q4_K | ElementType::Q5_K => &[0, 2],
        ElementType::Q6_K => &[208],
        _ => &[0],
    };
    let exponent = if element == ElementType::BF16 { 0x3c } else { 0x1c };
    for block in weights.chunks_mut(element.block_bytes()) {
        halves.iter().for_each(|half| block[half + 1] = exponent | block[half + 1] & 0x83);
    }
    weights
}

/// Makes the largest of a group odd in its last bit and others the means of two quants, so that an error in the last bit
/// of the scale is an error of a whole quant.
fn sharpen(group: &mut [f32]) {
    let (at, largest) = (0..)
        .zip(&*group)
        .fold((0, 0.0f32), |(at, most), (i, x)| if x.abs() > most { (i, x.abs()) } else { (at, most) });
    let inverse = |largest: f32| (largest / 127.0).recip();
    let mut odd = largest.to_bits() | 1;
    // Where the last bit shows in the inverse at all.
    while inverse(f32::from_bits(odd)) == inverse(f32::from_bits(odd - 1)) {
        odd += 2;
    }
    let (exact, other) = (inverse(f32::from_bits(odd)), inverse(f32::from_bits(odd - 1)));
    let len = group.len();
    let mut places = (1..len).step_by(5).map(|step| (at + step) % len);
    for mean in (1..126).rev().step_by(3).map(|quant| quant as f32 + 0.5) {
        let near = (mean / exact).to_bits();
        let value = (near - 3..near + 3).map(f32::from_bits).find(|x| x * exact == mean && x * other != mean);
        if let Some(value) = value
            && let Some(place) = places.next()
        {
            group[place] = value;
        }
    }
    group[at] = f32::from_bits(odd).copysign(group[at]);
}

pub(super) fn planes(element: ElementType, rows: usize, cols: usize, gguf: &[u8]) -> Vec<u8> {
    let mut planes = vec![0; gguf.len()];
    known(to_planes(element, rows, cols, gguf, &mut planes).map_err(KernelError::from));
    planes
}

/// Two matrices, and everything that they meet.
#[derive(Clone)]
pub(super) struct Data {
    processors: u32,
    pub(super) element: ElementType,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) w: [Vec<u8>; 2],
    pub(super) x: Vec<f32>,
    pub(super) norm: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) residual: Vec<f32>,
}

impl Data {
    pub(super) fn new(element: ElementType, rows: usize, cols: usize, batch: usize, seed: u64) -> Self {
        let mut random = Random::new(seed + 77);
        let w = [0, 1].map(|_| weights(element, rows, cols, &mut random));
        let (mut x, mut norm) = (random.f32s(batch * cols), random.f32s(cols));
        let group = ElementType::Q8Act.block_elements();
        for (i, norm) in norm.chunks_mut(group).enumerate().step_by(2) {
            norm.fill([0.5, -1.0, 2.0][i % 3]);
        }
        x.chunks_mut(group).step_by(2).for_each(sharpen);
        let (bias, residual) = (random.f32s(rows), random.f32s(batch * rows));
        Self { processors: PROCESSORS, element, rows, cols, w, x, norm, bias, residual }
    }

    /// Where there are four activation rows and more, some with a NaN, an infinity, groups of zeros.
    fn with_specials(mut self) -> Self {
        let batch = self.x.len() / self.cols;
        for (row, x) in self.x.chunks_mut(self.cols).enumerate().filter(|_| batch >= 4) {
            match row {
                0 | 5 => x[self.cols / 3] = f32::NAN,
                3 => x[self.cols - 5] = f32::NEG_INFINITY,
                6 if batch == 8 => x[self.cols - 5] = f32::NEG_INFINITY,
                1 => x[..100].fill(0.0),
                _ => {}
            }
        }
        self
    }

    pub(super) fn planes(&self, index: usize) -> Vec<u8> {
        planes(self.element, self.rows, self.cols, &self.w[index])
    }

    fn x(&self, rows: &std::ops::Range<usize>) -> &[f32] {
        &self.x[rows.start * self.cols..rows.end * self.cols]
    }

    fn residual(&self, bias: bool, rows: std::ops::Range<usize>) -> Case {
        self.residual_with(ResidualProjection::new, bias, rows)
    }

    fn residual_with(&self, new: NewResidual, bias: bool, rows: std::ops::Range<usize>) -> Case {
        let kernel = known(
            new(self.element, (self.rows, self.cols), rows.len(), bias)
                .and_then(|kernel| kernel.on(self.processors, Target::SM_90)),
        );
        let residual = &self.residual[rows.start * self.rows..rows.end * self.rows];
        let x = self.x(&rows);
        let y = known(kernel.reference(x, &self.w[0], bias.then_some(&self.bias), residual));
        let case = Case::new(kernel, "").with_f32("x", x).with_bytes("w", &self.planes(0));
        let case = if bias { case.with_f32("bias", &self.bias) } else { case };
        // In place, as a model has it, where there is a bias.
        let case = if bias { case.with_alias("y", "residual") } else { case };
        case.with_f32("residual", residual).expect_f32("y", y, self.rows, F32_BOUND)
    }

    /// [`residual`](Self::residual) with activations that are quantised already.
    fn residual_q8(&self, rows: std::ops::Range<usize>) -> Case {
        let shape = (self.rows, self.cols);
        let kernel = known(
            ResidualProjection::of_q8(self.element, shape, rows.len(), false)
                .and_then(|kernel| kernel.on(self.processors, Target::SM_90)),
        );
        let residual = &self.residual[rows.start * self.rows..rows.end * self.rows];
        let x = self.x(&rows);
        let y = known(kernel.reference(x, &self.w[0], None, residual));
        let row_bytes = known(ElementType::Q8Act.row_bytes(self.cols).map_err(KernelError::from));
        let mut quantised = vec![0; rows.len() * row_bytes];
        for (x, row) in x.chunks(self.cols).zip(quantised.chunks_mut(row_bytes)) {
            known(quantize_row(ElementType::Q8Act, x, row).map_err(KernelError::from));
        }
        Case::new(kernel, "")
            .with_bytes("x", &quantised)
            .with_bytes("w", &self.planes(0))
            .with_f32("residual", residual)
            .expect_f32("y", y, self.rows, F32_BOUND)
    }

    fn gated(&self, rows: std::ops::Range<usize>) -> Case {
        let kernel = known(
            GatedProjection::new(self.element, (self.rows, self.cols), rows.len(), EPS)
                .and_then(|kernel| kernel.on(self.processors, Target::SM_90)),
        );
        let x = self.x(&rows);
        // Of large gates nothing is left but the sign.
        let norm: Vec<f32> = self.norm.iter().map(|norm| norm / 1024.0).collect();
        let y = known(kernel.reference(x, &norm, &self.w[0], &self.w[1]));
        Case::new(kernel, "")
            .with_f32("x", x)
            .with_f32("norm", &norm)
            .with_bytes("gate", &self.planes(0))
            .with_bytes("up", &self.planes(1))
            .expect_f32("y", y, self.rows, F32_BOUND)
    }

    fn head(&self, rows: std::ops::Range<usize>) -> Case {
        let kernel = known(
            Head::new(self.element, (self.rows, self.cols), rows.len(), EPS)
                .and_then(|kernel| kernel.on(self.processors, Target::SM_90)),
        );
        let y = known(kernel.reference(self.x(&rows), &self.norm, &self.w[0]));
        self.of_head(kernel, &rows).expect_f32("y", y, self.rows, F32_BOUND)
    }

    fn greedy_head(&self, rows: std::ops::Range<usize>) -> Case {
        let kernel = known(
            GreedyHead::new(self.element, (self.rows, self.cols), rows.len(), EPS)
                .and_then(|kernel| kernel.on(self.processors, Target::SM_90)),
        );
        let y = known(kernel.reference(self.x(&rows), &self.norm, &self.w[0]));
        self.of_head(kernel, &rows).expect_u32("y", &y)
    }

    /// A case with what a head reads.
    fn of_head(&self, kernel: impl Kernel + 'static, rows: &std::ops::Range<usize>) -> Case {
        Case::new(kernel, "")
            .with_f32("x", self.x(rows))
            .with_f32("norm", &self.norm)
            .with_bytes("w", &self.planes(0))
    }
}

/// A case with these rows of the same random activations, whatever their number.
fn attention(
    shape: AttentionInputShape,
    processors: u32,
    positions: &[u32],
    sequences: &[u32],
    rows: std::ops::Range<usize>,
) -> Case {
    let AttentionInputShape { cols, n_heads, bias, table_positions, elements, cache, .. } = shape;
    let kernel = known(AttentionInput::new(shape).and_then(|kernel| kernel.on(processors, Target::SM_90)));
    let data = format!("rows{}_{}", rows.start, rows.end);
    let mut random = Random::new(cols as u64);
    let heads = [n_heads, cache.n_kv_heads, cache.n_kv_heads];
    let features = heads.map(|heads| heads * cache.head_dim);
    let gguf = [0, 1, 2].map(|i| weights(elements[i], features[i], cols, &mut random));
    let biases = features.map(|features| random.f32s(features));
    let norm = random.f32s(cols);
    let table = random.f32s(table_positions * cache.head_dim);
    let cached = cache.n_sequences * cache.n_kv_heads * cache.max_seq * cache.head_dim;
    let caches = [0, 1].map(|_| random.f32s(cached));
    let stored = known(Stored::new("attention_input", cache.element));
    let x = &random.f32s(8 * cols)[rows.start * cols..rows.end * cols];

    let inputs = AttentionInputs {
        x,
        norm: &norm,
        weights: [0, 1, 2].map(|i| gguf[i].as_slice()),
        biases: bias.then_some([0, 1, 2].map(|i| biases[i].as_slice())),
        positions,
        table: &table,
    };
    let [q, keys, values] = known(kernel.reference(inputs));
    let case = Case::new(kernel, &data)
        .with_f32("x", x)
        .with_f32("norm", &norm)
        .with_u32("positions", positions)
        .with_u32("sequences", sequences)
        .with_f32("table", &table)
        .with_bytes("k_cache", &stored.encode(&caches[0]))
        .with_bytes("v_cache", &stored.encode(&caches[1]));
    let case = with_weights(case, shape, &gguf, &biases);
    let case = expect_cached(case, shape, (positions, sequences), F32_BOUND, [keys, values]);
    case.expect_f32("q", q, features[0], F32_BOUND)
}

/// The case with the weights of query, key and value in GGUF's layout, and their biases where the kernel has some.
pub(super) fn with_weights(
    mut case: Case,
    shape: AttentionInputShape,
    gguf: &[Vec<u8>; 3],
    biases: &[Vec<f32>; 3],
) -> Case {
    let AttentionInputShape { cols, elements, bias, .. } = shape;
    for (i, (weight, name)) in [("wq", "bq"), ("wk", "bk"), ("wv", "bv")].into_iter().enumerate() {
        case = case.with_bytes(weight, &planes(elements[i], biases[i].len(), cols, &gguf[i]));
        case = if bias { case.with_f32(name, &biases[i]) } else { case };
    }
    case
}

/// The case with what the caches hold then: near `bound`, if that is more than what they are rounded by.
pub(super) fn expect_cached(
    mut case: Case,
    shape: AttentionInputShape,
    (positions, sequences): (&[u32], &[u32]),
    bound: f64,
    [keys, values]: [Vec<f64>; 2],
) -> Case {
    let cache = shape.cache;
    let (stored, features) =
        (known(Stored::new("attention_input", cache.element)), cache.n_kv_heads * cache.head_dim);
    for (name, new) in [("k_cache", keys), ("v_cache", values)] {
        for (row, new) in new.chunks(features).enumerate() {
            let (position, sequence) = (positions[row] as usize, sequences[row] as usize);
            if position >= cache.max_seq || sequence >= cache.n_sequences {
                continue;
            }
            for (head, new) in new.chunks(cache.head_dim).enumerate() {
                let at = ((sequence * cache.n_kv_heads + head) * cache.max_seq + position) * cache.head_dim;
                let bound = match cache.element {
                    ElementType::F32 => bound,
                    ElementType::F8E4M3 => BYTE_BOUND,
                    _ => HALF_BOUND,
                };
                let expect = Expect::Near {
                    element: cache.element,
                    values: new.to_vec(),
                    cols: cache.head_dim,
                    bound,
                };
                case = case.expect(name, at * stored.bytes() as usize, expect);
            }
        }
    }
    case
}
