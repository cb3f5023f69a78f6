//! New keys or values into the cache.

use ptx_builder::{F32, KernelBuilder, Module, Reg, Target, U32, U64};
use tensor_formats::ElementType;

use crate::cache::Cache;
use crate::cases::Case;
use crate::emit;
use crate::random::Random;
use crate::stored::Stored;
use crate::support::{boxed, dim, extent, f32_param, f32_vector, flat_launch, known, refuse, u32_param};
use crate::{Access, CacheShape, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "kv_scatter";
const THREADS: u32 = 128;

/// `cache[sequences[r], h, positions[r], i] = x[r, h * head_dim + i]`.
///
/// Where the cache has another type than f32, values are rounded to nearest, ties to even; beyond the largest F8E4M3
/// they become that. A row whose position or sequence lies outside the cache writes nothing. Two rows of the same sequence and position
/// race; which one stays is undefined. Parameters: `cache` (see [`CacheShape`]), `x` `[rows, n_kv_heads * head_dim]`
/// f32, `positions` and `sequences` `[rows]` u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvScatter {
    cache: Cache,
    rows: u32,
}

impl KvScatter {
    /// The kernel for `rows` rows.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for a dimension of 0, a cache beyond 2^48 bytes, or more than 2^32 threads.
    pub fn new(cache: CacheShape, rows: usize) -> Result<Self, KernelError> {
        let (cache, rows) = (Cache::new(FAMILY, cache)?, dim(FAMILY, "rows", rows)?);
        extent(FAMILY, "x", &[rows, cache.n_kv_heads, cache.head_dim])?;
        let kernel = Self { cache, rows };
        match flat_launch(kernel.units(), THREADS) {
            Some(_) => Ok(kernel),
            None => {
                Err(refuse(FAMILY, format!("{rows} rows of {} need more than 2^32 threads", cache.row())))
            }
        }
    }

    /// Does to `cache`, the values of the cache, what the kernel does.
    ///
    /// # Panics
    /// If the slices do not have the lengths of the parameters.
    pub fn reference(&self, cache: &mut [f32], x: &[f32], positions: &[u32], sequences: &[u32]) {
        assert_eq!((cache.len() as u64, x.len() as u64), (self.cache.elements(), self.elements()));
        assert_eq!((positions.len(), sequences.len()), (self.rows as usize, self.rows as usize));
        let head_dim = self.cache.head_dim as usize;
        for (row, x) in x.chunks(self.cache.row() as usize).enumerate() {
            for (head, x) in (0..).zip(x.chunks(head_dim)) {
                if let Some(at) = self.cache.index(sequences[row], head, positions[row]) {
                    for (stored, &value) in cache[at..at + head_dim].iter_mut().zip(x) {
                        *stored = self.cache.stored.round(value);
                    }
                }
            }
        }
    }

    fn elements(&self) -> u64 {
        u64::from(self.rows) * self.cache.row()
    }

    /// Elements that a thread stores: 16 bytes if heads start on 16-byte boundaries, else one element.
    fn vector(&self) -> u32 {
        let vector = 16 / self.cache.stored.bytes();
        if self.cache.head_dim.is_multiple_of(vector) { vector } else { 1 }
    }

    fn units(&self) -> u64 {
        self.elements() / u64::from(self.vector())
    }
}

impl Kernel for KvScatter {
    fn name(&self) -> String {
        format!("kv_scatter_{}_{}_b{}", self.cache.stored.name(), self.cache.name(), self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let stored = self.cache.stored;
        let cache = Param {
            name: "cache",
            access: Access::ReadWrite,
            element: stored.element(),
            bytes: self.cache.bytes(),
            align: self.vector() * stored.bytes(),
        };
        vec![
            cache,
            f32_param("x", Access::Read, self.elements(), f32_vector(self.vector()) * 4),
            u32_param("positions", self.rows.into()),
            u32_param("sequences", self.rows.into()),
        ]
    }

    fn geometry(&self) -> LaunchGeometry {
        let blocks = self.units().div_ceil(THREADS.into()) as u32;
        LaunchGeometry { grid: [blocks, 1, 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let bytes_written = self.elements() * u64::from(self.cache.stored.bytes());
        Cost { bytes_read: self.elements() * 4 + u64::from(self.rows) * 8, bytes_written, operations: 0 }
    }

    fn min_target(&self) -> Target {
        self.cache.stored.rounds_from()
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, [cache, x, positions, sequences]| {
            let (stored, vector) = (self.cache.stored, self.vector());
            let (head_units, rows) = (self.cache.head_dim / vector, u64::from(self.rows));
            let index = emit::flat_index(k, self.units(), THREADS);
            let (row_head, unit) = emit::split(k, index, self.units(), head_units);
            let heads = self.cache.n_kv_heads;
            let (row, head) = emit::split(k, row_head, rows * u64::from(heads), heads);
            let [position, sequence] = [positions, sequences].map(|leaf| {
                let at = k.ptr_index(leaf, row, 4);
                k.ld_global::<U32>(at)
            });
            k.comment("a row outside the cache writes nothing");
            let position_outside = k.ge(position, self.cache.max_seq);
            k.ret_if(position_outside);
            let sequence_outside = k.ge(sequence, self.cache.n_sequences);
            k.ret_if(sequence_outside);

            let x_at = k.ptr_index(x, index, vector * 4);
            let values = load(k, x_at, vector);
            k.comment("((sequence * n_kv_heads + head) * max_seq + position) * head_dim, in 64 bits");
            let cache_head = k.mad(sequence, heads, head);
            let position = k.widen(position);
            let cache_row = k.mad_wide(cache_head, self.cache.max_seq, position);
            let at = k.mad(cache_row, u64::from(self.cache.head_dim * stored.bytes()), cache);
            let at = k.ptr_index(at, unit, vector * stored.bytes());
            stored.store(k, at, &values);
        })
    }
}

/// `count` consecutive values: one, or a multiple of four.
fn load(k: &mut KernelBuilder, at: Reg<U64>, count: u32) -> Vec<Reg<F32>> {
    match count {
        1 => vec![k.ld_global::<F32>(at)],
        _ => (0..count / 4).flat_map(|quad| k.ld_global_v4::<F32>(at + (quad * 16) as i32)).collect(),
    }
}

fn shape(n_sequences: usize, n_kv_heads: usize, max_seq: usize, head_dim: usize) -> CacheShape {
    CacheShape { n_sequences, n_kv_heads, max_seq, head_dim, element: ElementType::F32 }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shapes = [
        (shape(2, 2, 16, 64), 2),
        (shape(2, 2, 16, 33), 2),
        (shape(1, 8, 4096, 64), 1),
        (shape(8, 8, 4096, 128), 8),
    ];
    let of_type = |stored: Stored| {
        shapes.into_iter().map(move |(cache, rows)| {
            boxed(KvScatter::new(CacheShape { element: stored.element(), ..cache }, rows))
        })
    };
    Stored::ALL.into_iter().flat_map(of_type).collect()
}

/// Values that a narrower type cannot hold exactly: ties of both directions, subnormals, the largest, infinity.
const SPECIAL: [f32; 24] = [
    0.0,
    -0.0,
    1.0 + 1.0 / 2048.0,
    1.0 + 3.0 / 2048.0,
    1.0 + 1.0 / 256.0,
    -1.0 - 3.0 / 256.0,
    65504.0,
    65519.0,
    65520.0,
    -1.0e30,
    5.96e-8,
    2.9e-8,
    -1.0e-40,
    3.4e38,
    f32::INFINITY,
    f32::NEG_INFINITY,
    448.0,
    -463.9,
    464.1,
    0.015_625,
    0.015_1,
    9.765_625e-4,
    -2.929_687_5e-3,
    1.0e-5,
];

/// The conformance cases of this family. They look at every byte of the cache, so that a write to the wrong place shows.
pub(crate) fn cases() -> Vec<Case> {
    Stored::ALL.into_iter().flat_map(cases_of).collect()
}

fn cases_of(stored: Stored) -> Vec<Case> {
    let case = |shape: CacheShape, positions: &[u32], sequences: &[u32], data: &str| {
        let kernel = known(KvScatter::new(shape, positions.len()));
        let mut random = Random::new(shape.head_dim as u64);
        let mut x = random.f32s(kernel.elements() as usize);
        if data == "special" {
            x.iter_mut().zip(SPECIAL.iter().cycle()).for_each(|(x, &special)| *x = special);
        }
        let mut cache = random.f32s(kernel.cache.elements() as usize);
        let case = Case::new(kernel, data)
            .with_bytes("cache", &stored.encode(&cache))
            .with_f32("x", &x)
            .with_u32("positions", positions)
            .with_u32("sequences", sequences);
        kernel.reference(&mut cache, &x, positions, sequences);
        case.expect_bytes("cache", stored.encode(&cache))
    };
    let shape = |n_sequences, n_kv_heads, max_seq, head_dim| CacheShape {
        element: stored.element(),
        ..shape(n_sequences, n_kv_heads, max_seq, head_dim)
    };
    let mut cases = Vec::new();
    for rows in [1, 2, 5, 8, 9, 16, 32] {
        let positions: Vec<u32> = (0..rows).map(|r| (r * 7 + 3) % 40).collect();
        let sequences: Vec<u32> = (0..rows).map(|r| r % 3).collect();
        cases.push(case(shape(3, 2, 40, 64), &positions, &sequences, "batch"));
    }
    for head_dim in [1, 2, 3, 33, 64, 80, 96, 127, 128, 160, 256, 320] {
        cases.push(case(shape(2, 3, 20, head_dim), &[19, 0, 19], &[1, 1, 0], "head_dim"));
    }
    cases.push(case(shape(1, 2, 4, 64), &[1, 3], &[0, 0], "special"));
    cases.push(case(shape(1, 2, 4, 17), &[2, 0], &[0, 0], "special"));
    let max = u32::MAX;
    let (positions, sequences) = ([10, 9, 0, max, 4, 3, 1 << 31], [0, 2, max, 0, 1, 1 << 31, 1]);
    cases.push(case(shape(2, 2, 10, 64), &positions, &sequences, "outside"));
    cases.push(case(shape(2, 2, 10, 35), &positions, &sequences, "outside"));
    cases.push(case(shape(1, 1, 131_072, 8), &[131_071, 131_072, 65_536], &[0; 3], "high_position"));
    cases
}
