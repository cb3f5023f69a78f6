//! The catalogue rows and conformance cases of attention.

use ptx_builder::Target;

use super::{Attention, AttentionInputs, PromptAttention};
use crate::cases::{Case, F32_BOUND, Invariance};
use crate::random::Random;
use crate::stored::Stored;
use crate::support::{boxed, known};
use crate::{CacheShape, Kernel, shared_memory};

fn scale(head_dim: usize) -> f32 {
    (head_dim as f32).sqrt().recip()
}

/// The types that tensor cores multiply.
const TENSOR_CORES: [Stored; 3] = [Stored::F16, Stored::Bf16, Stored::E4m3];

/// The shared memory of a block on a large device.
const SHARED: u32 = shared_memory(Target::SM_90);

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    type Shape = (usize, usize, usize, usize, usize);
    let kernel = |stored: Stored, (rows, group, n_kv_heads, head_dim, max_seq): Shape| {
        let element = stored.element();
        let cache = CacheShape { n_sequences: rows, n_kv_heads, max_seq, head_dim, element };
        known(Attention::new(cache, rows, group * n_kv_heads, scale(head_dim)))
    };
    let any = |stored, shape| Box::new(kernel(stored, shape)) as Box<dyn Kernel>;
    let large = |stored, shape| Box::new(kernel(stored, shape).on(Target::SM_90)) as Box<dyn Kernel>;
    let head_dims = [64, 80, 96, 128, 256].map(|head_dim| (1, 4, 2, head_dim, 64));
    let groups = [1, 2, 7, 8].map(|group| (2, group, 2, 128, 64));
    // Llama 3.2 1B, Qwen2.5 1.5B, Llama 3.1 8B.
    let real = [(1, 4, 8, 64, 4096), (1, 6, 2, 128, 4096), (1, 4, 8, 128, 4096), (8, 4, 8, 128, 4096)];
    let split = [(2, 2, 2, 64, 320), (1, 8, 1, 128, 8192)];
    let shapes = head_dims.into_iter().chain(groups).chain(real).chain(split);
    let mut kernels: Vec<_> = shapes.flat_map(|shape| Stored::ALL.map(|stored| any(stored, shape))).collect();
    kernels.extend(real.into_iter().flat_map(|shape| Stored::ALL.map(|stored| large(stored, shape))));
    for shape in [(1, 4, 2, 80, 64), (2, 2, 2, 64, 320), (1, 6, 2, 128, 8192)] {
        kernels.extend(TENSOR_CORES.map(|stored| large(stored, shape)));
    }
    for (rows, group, head_dim) in [(24, 4, 64), (512, 4, 128), (512, 6, 128)] {
        let cache = CacheShape {
            n_sequences: 1,
            n_kv_heads: 2,
            max_seq: 4096,
            head_dim,
            element: Stored::F16.element(),
        };
        kernels.push(boxed(PromptAttention::new(cache, rows, 2 * group, scale(head_dim))));
    }
    kernels
}

/// A case in which row `r` attends to `lengths[r]` positions of a sequence, all of whose other positions are NaN:
/// reading one too many spoils the row.
#[derive(Debug, Clone, Copy)]
struct Sequences<'a> {
    stored: Stored,
    group: usize,
    n_kv_heads: usize,
    head_dim: usize,
    max_seq: usize,
    lengths: &'a [usize],
    /// Factor on the queries: how sharply peaked the softmax is.
    sharpness: f32,
    /// Bytes of shared memory that rings may take their part of.
    shared: u32,
    /// Whether the blocks of a row are a cluster.
    clusters: bool,
}

/// The data of a [`Sequences`].
#[derive(Debug, Clone)]
struct Data {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    positions: Vec<u32>,
    sequences: Vec<u32>,
}

impl Sequences<'_> {
    /// Every row has a sequence of its own: row `r` uses sequence `rows - 1 - r`.
    fn data(&self) -> Data {
        let rows = self.lengths.len();
        let lengths: Vec<usize> = self.lengths.iter().rev().copied().collect();
        self.filled(&lengths, (0..rows as u32).rev().collect())
    }

    /// All rows attend to one sequence.
    fn of_one_sequence(&self) -> Data {
        let longest = *self.lengths.iter().max().expect("a case has rows");
        self.filled(&[longest], vec![0; self.lengths.len()])
    }

    /// Caches of sequences of `filled` positions each, to which the rows attend by `sequences`.
    fn filled(&self, filled: &[usize], sequences: Vec<u32>) -> Data {
        let rows = self.lengths.len();
        let mut random = Random::new((self.head_dim * 1000 + self.group * 10 + rows) as u64);
        let mut q = random.f32s(rows * self.group * self.n_kv_heads * self.head_dim);
        q.iter_mut().for_each(|q| *q *= self.sharpness);
        let mut cache = || {
            let mut cache = vec![f32::NAN; filled.len() * self.n_kv_heads * self.max_seq * self.head_dim];
            for (index, head) in cache.chunks_mut(self.max_seq * self.head_dim).enumerate() {
                let length = filled[index / self.n_kv_heads];
                head[..length * self.head_dim].fill_with(|| self.stored.round(random.normal()));
            }
            cache
        };
        let (k, v) = (cache(), cache());
        let positions = self.lengths.iter().map(|&length| length as u32 - 1).collect();
        Data { q, k, v, positions, sequences }
    }

    fn kernel(&self, data: &Data) -> Attention {
        self.kernel_of(data, scale(self.head_dim))
    }

    fn kernel_of(&self, data: &Data, scale: f32) -> Attention {
        let (n_kv_heads, max_seq, head_dim) = (self.n_kv_heads, self.max_seq, self.head_dim);
        let n_sequences = data.k.len() / (n_kv_heads * max_seq * head_dim);
        let element = self.stored.element();
        let cache = CacheShape { n_sequences, n_kv_heads, max_seq, head_dim, element };
        let kernel = Attention::new(cache, data.positions.len(), self.group * n_kv_heads, scale);
        let kernel = known(kernel).within(self.shared);
        if self.clusters { kernel.clustered() } else { kernel }
    }

    fn case(&self, data: &Data, name: &str) -> Case {
        self.case_of(self.kernel(data), data, name)
    }

    fn case_of(&self, kernel: Attention, data: &Data, name: &str) -> Case {
        let inputs = AttentionInputs {
            q: &data.q,
            k_cache: &data.k,
            v_cache: &data.v,
            positions: &data.positions,
            sequences: &data.sequences,
        };
        let y = kernel.reference(inputs);
        Case::new(kernel, name)
            .with_f32("q", &data.q)
            .with_bytes("k_cache", &self.stored.encode(&data.k))
            .with_bytes("v_cache", &self.stored.encode(&data.v))
            .with_u32("positions", &data.positions)
            .with_u32("sequences", &data.sequences)
            .expect_f32("y", y, self.head_dim, F32_BOUND)
    }
}

const PLAIN: Sequences<'static> = Sequences {
    stored: Stored::F32,
    group: 4,
    n_kv_heads: 2,
    head_dim: 64,
    max_seq: 70,
    lengths: &[],
    sharpness: 1.0,
    shared: 0,
    clusters: false,
};

const LENGTHS: [usize; 5] = [1, 31, 32, 33, 1025];

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for head_dim in [64, 128] {
        for length in LENGTHS {
            let one = Sequences { head_dim, max_seq: 1030, lengths: &[length], ..PLAIN };
            cases.push(one.case(&one.data(), &format!("length_{length}")));
        }
        for rows in [2, 5, 8, 9, 16, 32] {
            let lengths: Vec<usize> = (0..rows).map(|r| 1 + (r * 29 + 33) % 70).collect();
            let batch = Sequences { head_dim, lengths: &lengths, ..PLAIN };
            cases.push(batch.case(&batch.data(), "batch"));
        }
        for group in [1, 2, 7, 8] {
            let long =
                Sequences { head_dim, group, n_kv_heads: 1, max_seq: 1025, lengths: &LENGTHS, ..PLAIN };
            cases.push(long.case(&long.data(), "lengths"));
        }
    }
    for stored in Stored::ALL {
        for head_dim in [4, 32, 36, 64, 80, 96, 128, 192, 256] {
            if !(head_dim * stored.bytes() as usize).is_multiple_of(16) {
                continue;
            }
            // Every group once with the simplest type; with the others those that give lanes different numbers of pieces.
            let groups: &[usize] =
                if stored == Stored::F32 { &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16] } else { &[1, 4, 6, 8, 12] };
            for &group in groups {
                let shape = Sequences { stored, head_dim, group, lengths: &[70, 1, 31, 32, 33], ..PLAIN };
                cases.push(shape.case(&shape.data(), "shape"));
            }
            // Every warp has work, and more of it after its first.
            for group in [1, 6] {
                let long = Sequences { stored, head_dim, group, n_kv_heads: 1, max_seq: 256, ..PLAIN };
                let long = Sequences { lengths: &[256, 131], ..long };
                cases.push(long.case(&long.data(), "long"));
            }
        }
        cases.extend(thresholds(stored));
    }
    // Seven heads would not have room.
    for (stored, head_dim) in [(Stored::F16, 136), (Stored::F16, 144), (Stored::E4m3, 144)] {
        for group in [7, 14] {
            let shape = Sequences { stored, head_dim, group, n_kv_heads: 1, ..PLAIN };
            let shape = Sequences { lengths: &[70, 1], ..shape };
            cases.push(shape.case(&shape.data(), "large_heads"));
        }
    }
    cases.extend(TENSOR_CORES.into_iter().flat_map(rings));
    cases.extend([64, 128, 256].map(last_bits));
    cases.extend(Stored::ALL.into_iter().flat_map(clusters));
    let sharp = Sequences { head_dim: 128, max_seq: 700, lengths: &[700, 513], sharpness: 12.0, ..PLAIN };
    cases.push(sharp.case(&sharp.data(), "sharp"));
    let full = Sequences { max_seq: 4096, n_kv_heads: 1, lengths: &[4096], ..PLAIN };
    cases.push(full.case(&full.data(), "full_cache"));

    let prompt = Sequences { max_seq: 80, lengths: &[60, 61, 62, 63, 64, 65, 66, 67, 68], ..PLAIN };
    cases.push(prompt.case(&prompt.of_one_sequence(), "prompt"));
    for (stored, (max_seq, length)) in
        Stored::ALL.into_iter().flat_map(|stored| [(70, 70), (400, 370)].map(|shape| (stored, shape)))
    {
        let in_place = Sequences { stored, max_seq, lengths: &[length, 3], ..PLAIN };
        cases.push(in_place.case(&in_place.data(), "").with_alias("y", "q"));
    }
    cases
}

/// Rings of every number of slots, filled several times; heads whose rows are not whole lines or powers of two.
fn rings(stored: Stored) -> Vec<Case> {
    let plain = Sequences { stored, n_kv_heads: 1, max_seq: 700, lengths: &[700, 1, 130, 513], ..PLAIN };
    let mut cases = Vec::new();
    for head_dim in [16, 64, 80, 96, 128, 192, 256] {
        let mut slots = None;
        for shared in [SHARED / 2, SHARED] {
            let shape = Sequences { head_dim, shared, ..plain };
            let data = shape.data();
            let kernel = shape.kernel(&data);
            // Not every head has room for a ring, and more memory is not always another slot.
            if kernel.slots() > slots {
                slots = kernel.slots();
                cases.push(shape.case_of(kernel.unsplit(), &data, "ring"));
            }
        }
    }
    for group in [1, 6, 8] {
        let shape = Sequences { head_dim: 128, group, shared: SHARED, ..plain };
        cases.push(shape.case(&shape.data(), "ring_chunks"));
    }
    // More chunks than are combined at a time, the last of which is not whole.
    let many = Sequences { group: 1, head_dim: 16, max_seq: 2048, shared: SHARED, ..plain };
    let many = Sequences { lengths: &[2048, 1030, 1090, 1530, 1800, 257], ..many };
    let sharp = Sequences { sharpness: 12.0, ..many };
    cases.extend(
        [(many, "ring_many_chunks"), (sharp, "ring_many_chunks_sharp")]
            .map(|(shape, name)| shape.case(&shape.data(), name)),
    );
    // Sixteen chunks: of half a step up to 1,024 positions, of a whole one beyond.
    let grown = Sequences { n_kv_heads: 8, max_seq: 1500, lengths: &[1500, 1024, 1025, 1281], ..many };
    cases.push(grown.case(&grown.data(), "ring_grown"));
    let outside = Sequences { n_kv_heads: 2, max_seq: 400, lengths: &[40, 40, 399], shared: SHARED, ..plain };
    let mut data = outside.data();
    (data.positions[0], data.sequences[1]) = (400, 3);
    cases.push(outside.case(&data, "ring_outside"));
    cases
}

/// Lengths around those at which the division of a row changes, and rows outside the cache.
fn thresholds(stored: Stored) -> Vec<Case> {
    let plain = Sequences { stored, group: 2, ..PLAIN };
    // One chunk, five, six, eight; the cache ends in the middle of a chunk.
    let chunks =
        Sequences { max_seq: 458, lengths: &[1, 63, 127, 129, 255, 256, 257, 320, 321, 458], ..plain };
    // 32 heads of their own leave 16 blocks for a row: chunks grow beyond 1,024 and beyond 2,048 positions.
    let grown = Sequences {
        group: 1,
        n_kv_heads: 32,
        head_dim: 16,
        max_seq: 2100,
        lengths: &[1, 64, 256, 1023, 1024, 1025, 1152, 1153, 2047, 2048, 2049, 2100],
        ..plain
    };
    // More chunks than are combined at a time.
    let many = Sequences { group: 1, n_kv_heads: 1, head_dim: 16, max_seq: 2048, ..plain };
    let many = Sequences { lengths: &[1030, 1090, 1200, 1280, 1400, 1530, 1800, 2048], ..many };
    let many_sharp = Sequences { sharpness: 12.0, ..many };
    let whole = Sequences { max_seq: 300, lengths: &[1, 64, 65, 300], ..plain };
    let data = whole.data();
    let sharp = Sequences { sharpness: 12.0, ..whole };
    let outside = [40, 400].map(|max_seq| {
        let outside = Sequences { max_seq, lengths: &[40, 40, 40, 40, 40, 40], ..plain };
        let mut data = outside.data();
        data.positions[1..5].copy_from_slice(&[max_seq as u32, u32::MAX, 5, 6]);
        data.sequences[3..5].copy_from_slice(&[6, u32::MAX]);
        outside.case(&data, "outside")
    });
    let thresholds = [
        chunks.case(&chunks.data(), "chunks"),
        grown.case(&grown.of_one_sequence(), "grown"),
        many.case(&many.data(), "many_chunks"),
        many_sharp.case(&many_sharp.data(), "many_chunks_sharp"),
        whole.case_of(whole.kernel(&data).unsplit(), &data, "whole"),
        whole.case_of(whole.kernel(&data).unsplit(), &sharp.data(), "sharp"),
    ];
    thresholds.into_iter().chain(outside).collect()
}

/// Rows that clusters of every size do, of lengths around those at which their division changes.
fn clusters(stored: Stored) -> Vec<Case> {
    let shared = if TENSOR_CORES.contains(&stored) { SHARED } else { 0 };
    let plain = Sequences { stored, group: 2, shared, clusters: true, max_seq: 1100, ..PLAIN };
    let case = |shape: Sequences<'_>, name: &str| shape.case(&shape.data(), name);
    let mut cases: Vec<_> = [1, 128, 129, 192, 257, 512, 513, 1024, 1025, 1100]
        .into_iter()
        .map(|length| case(Sequences { lengths: &[length], ..plain }, &format!("cluster_{length}")))
        .collect();
    // One chunk, three, eight of one length; of these 513 positions need fewer.
    for max_seq in [128, 129, 512, 513, 1030] {
        cases.push(case(Sequences { max_seq, lengths: &[max_seq], ..plain }, "cluster_full"));
    }
    let lengths = [257, 1, 1024, 1100, 1025, 600, 512, 256, 384];
    // 2, 4, 8, 10, 16, 18, 36, and 72 sets of heads.
    for (rows, n_kv_heads) in [(1, 2), (2, 2), (8, 1), (5, 2), (4, 4), (9, 2), (9, 4), (9, 8)] {
        let shape = Sequences { n_kv_heads, head_dim: 16, lengths: &lengths[..rows], ..plain };
        cases.push(case(shape, "clusters"));
    }
    // Features that the blocks of a cluster do not share evenly, or are too few for.
    for (group, head_dim) in [(1, 16), (3, 80), (7, 16), (8, 128), (4, 256)] {
        let shape = Sequences { group, head_dim, lengths: &[700], max_seq: 1024, ..plain };
        cases.push(case(shape, "cluster_shares"));
    }
    let sharp = Sequences { lengths: &[700, 260], sharpness: 12.0, ..plain };
    cases.push(case(sharp, "cluster_sharp"));
    let outside = Sequences { lengths: &[600, 40, 300, 40], ..plain };
    let mut data = outside.data();
    (data.positions[1], data.sequences[2], data.positions[3]) = (1100, 4, u32::MAX);
    cases.push(outside.case(&data, "cluster_outside"));
    let in_place = Sequences { lengths: &[700, 3], ..plain };
    cases.push(case(in_place, "cluster_in_place").with_alias("y", "q"));
    cases
}

/// Products and sums that are exact, and large ones that cancel out: every score is 0, and so is every second feature of
/// the result. A value whose last bit is wrong spoils that.
fn last_bits(head_dim: usize) -> Case {
    let shape = Sequences { stored: Stored::Bf16, head_dim, max_seq: 128, lengths: &[128], ..PLAIN };
    let mut data = shape.data();
    for (index, q) in data.q.iter_mut().enumerate() {
        *q = [0.0, 1.0, 0.0, -1.0][index % 4];
    }
    let large = |number: usize| (128 + number * 37 % 128) as f32 * 128.0;
    for (index, (k, v)) in data.k.iter_mut().zip(&mut data.v).enumerate() {
        let (position, feature) = (index / head_dim, index % head_dim);
        if feature % 2 == 1 {
            *k = large(position + feature / 4);
            *v = if position % 2 == 1 { large(feature) } else { -large(feature) };
        }
    }
    let kernel = shape.kernel_of(&data, std::f32::consts::LN_2);
    shape.case_of(kernel, &data, "last_bits")
}

/// A row in a batch and that row alone; a row in caches of two sizes.
pub(crate) fn invariances() -> Vec<Invariance> {
    let lengths = [70, 1, 33, 300, 64, 7, 299, 128];
    let of = |stored: Stored, group, n_kv_heads, head_dim| Sequences {
        stored,
        group,
        n_kv_heads,
        head_dim,
        max_seq: 300,
        lengths: &lengths,
        sharpness: 2.0,
        shared: 0,
        clusters: false,
    };
    let name = |shape: &Sequences, what: &str| {
        let clusters = if shape.clusters { "_clusters" } else { "" };
        format!("attention_{}_g{}_d{}{clusters}/{what}", shape.stored.name(), shape.group, shape.head_dim)
    };
    let mut pairs = Vec::new();
    for (stored, group, n_kv_heads, head_dim, clusters) in [
        (Stored::F32, 4, 2, 64, false),
        (Stored::F32, 7, 2, 64, false),
        (Stored::F32, 4, 2, 128, false),
        (Stored::F32, 6, 2, 128, false),
        (Stored::F16, 4, 2, 128, false),
        (Stored::Bf16, 7, 2, 64, false),
        (Stored::E4m3, 6, 2, 128, false),
        // So many heads that the blocks of a row are fewer in a batch.
        (Stored::F16, 1, 8, 64, false),
        (Stored::F16, 1, 8, 64, true),
        (Stored::F32, 4, 2, 64, true),
    ] {
        let row = 6;
        let shape = Sequences { clusters, ..of(stored, group, n_kv_heads, head_dim) };
        let batch = shape.data();
        let width = group * n_kv_heads * head_dim;
        let alone = Data {
            q: batch.q[row * width..(row + 1) * width].to_vec(),
            positions: vec![batch.positions[row]],
            sequences: vec![batch.sequences[row]],
            ..batch.clone()
        };
        pairs.push(Invariance {
            name: name(&shape, &format!("row_{row}_of_8")),
            left: shape.case(&batch, ""),
            right: shape.case(&alone, ""),
            param: "y",
            left_bytes: row * width * 4..(row + 1) * width * 4,
            right_bytes: 0..width * 4,
        });
    }
    for (stored, head_dim, clusters) in [
        (Stored::F16, 64, false),
        (Stored::F16, 128, false),
        (Stored::E4m3, 80, false),
        (Stored::F16, 128, true),
    ] {
        let registers = Sequences { clusters, ..of(stored, 4, 2, head_dim) };
        let ring = Sequences { shared: SHARED, ..registers };
        let bytes = 0..lengths.len() * 4 * 2 * head_dim * 4;
        pairs.push(Invariance {
            name: name(&ring, "ring_and_registers"),
            left: ring.case(&ring.data(), ""),
            right: registers.case(&registers.data(), ""),
            param: "y",
            left_bytes: bytes.clone(),
            right_bytes: bytes,
        });
    }
    for (stored, clusters, max_seq) in
        [(Stored::F32, false, 4500), (Stored::F16, false, 4500), (Stored::F16, true, 4000)]
    {
        let small = Sequences { clusters, ..of(stored, 4, 2, 64) };
        let large = Sequences { max_seq, ..small };
        let bytes = 0..lengths.len() * 4 * 2 * 64 * 4;
        pairs.push(Invariance {
            name: name(&small, &format!("max_seq_300_and_{max_seq}")),
            left: small.case(&small.data(), ""),
            right: large.case(&large.data(), ""),
            param: "y",
            left_bytes: bytes.clone(),
            right_bytes: bytes,
        });
    }
    pairs
}

/// The relative error where queries and weights are rounded to f16.
const HALF_BOUND: f64 = 2e-3;

/// The cases of many rows.
pub(crate) fn prompt_cases() -> Vec<Case> {
    // Rows, heads of a group, features, sequences: parts of a block, whole ones, and several; positions of a tile and of
    // several; rows of several sequences in a block.
    let shapes =
        [(9, 4, 64, 1), (40, 1, 128, 1), (33, 7, 64, 3), (150, 2, 128, 2), (17, 8, 128, 4), (64, 3, 64, 1)];
    shapes
        .into_iter()
        .map(|(rows, group, head_dim, n_sequences)| prompt_case(rows, group, head_dim, n_sequences))
        .collect()
}

/// Rows at consecutive positions, dealt out to the sequences in turn where these are several; two are outside of the cache. What
/// no row attends to is no number.
fn prompt_case(rows: usize, group: usize, head_dim: usize, n_sequences: usize) -> Case {
    let (n_kv_heads, max_seq, before) = (2, 256, 75);
    let cache = CacheShape { n_sequences, n_kv_heads, max_seq, head_dim, element: Stored::F16.element() };
    let kernel = known(PromptAttention::new(cache, rows, group * n_kv_heads, scale(head_dim)));
    let sequences: Vec<u32> = (0..rows as u32).map(|row| row % n_sequences as u32).collect();
    let positions: Vec<u32> = (0..rows).map(|row| (before + row / n_sequences) as u32).collect();
    let (mut positions, mut sequences) = (positions, sequences);
    (positions[3], sequences[5]) = (max_seq as u32, n_sequences as u32);
    let mut random = Random::new((rows * head_dim) as u64);
    let q = random.f32s(rows * group * n_kv_heads * head_dim);
    let elements = n_sequences * n_kv_heads * max_seq * head_dim;
    let [mut keys, mut values] = [0, 1].map(|_| random.f32s(elements));
    let filled = before + rows.div_ceil(n_sequences);
    for cache in [&mut keys, &mut values] {
        for head in cache.chunks_mut(max_seq * head_dim) {
            head[filled * head_dim..].fill(f32::NAN);
        }
        cache.iter_mut().for_each(|value| *value = Stored::F16.round(*value));
    }
    let inputs = AttentionInputs {
        q: &q,
        k_cache: &keys,
        v_cache: &values,
        positions: &positions,
        sequences: &sequences,
    };
    let y = known(kernel.reference(inputs));
    Case::new(kernel, "")
        .with_f32("q", &q)
        .with_bytes("k_cache", &Stored::F16.encode(&keys))
        .with_bytes("v_cache", &Stored::F16.encode(&values))
        .with_u32("positions", &positions)
        .with_u32("sequences", &sequences)
        .expect_f32("y", y, head_dim, HALF_BOUND)
}
