//! Rows of an embedding table, dequantised.

use ptx_builder::{F32, Module, Target, U32};
use tensor_formats::{ElementType, to_planes};

use crate::cases::Case;
use crate::dequant::Table;
use crate::emit;
use crate::random::Random;
use crate::support::{boxed, dim, f32_param, flat_launch, known, matrix_extent, refuse, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "embed_rows";
const THREADS: u32 = 256;

/// `y[r, i] = table[tokens[r], i]`, for a table of any weight type.
///
/// A token that is not below `vocab` gives a row of NaNs; nothing outside the table is read. Callers check tokens
/// before the launch: the NaNs are there so that a mistake cannot pass for text.
/// Parameters: `table` `[vocab, n]` in the device's layout ([`tensor_formats::planes`]), `tokens` `[rows]` u32, `y` `[rows, n]` f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedRows {
    element: ElementType,
    vocab: u32,
    n: u32,
    row_bytes: u32,
    rows: u32,
}

impl EmbedRows {
    /// The kernel for `rows` tokens and a table of `vocab` rows of `n` values of type `element`.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a row is not whole blocks; [`KernelError::Unsupported`] if `element` is no weight
    /// type, for a dimension of 0, a table beyond 2^48 bytes, or more than 2^32 output values.
    pub fn new(element: ElementType, vocab: usize, n: usize, rows: usize) -> Result<Self, KernelError> {
        if !element.is_weight() {
            return Err(refuse(FAMILY, format!("a table of type {element}")));
        }
        let row_bytes = dim(FAMILY, "bytes of a row", element.row_bytes(n)?)?;
        let (vocab, rows) = (dim(FAMILY, "vocab", vocab)?, dim(FAMILY, "rows", rows)?);
        let n = dim(FAMILY, "n", n)?;
        matrix_extent(FAMILY, "table", vocab, row_bytes)?;
        if flat_launch(u64::from(rows) * u64::from(n), THREADS).is_none() {
            return Err(refuse(FAMILY, format!("{rows} x {n} needs more than 2^32 threads")));
        }
        Ok(Self { element, vocab, n, row_bytes, rows })
    }

    /// What the kernel computes, given the table already dequantised (`[vocab, n]`): every format's values are exact
    /// in f32, so the result is too.
    ///
    /// # Panics
    /// If the slices do not have the lengths of the parameters.
    pub fn reference(&self, table: &[f32], tokens: &[u32]) -> Vec<f32> {
        let n = self.n as usize;
        assert_eq!((table.len(), tokens.len()), (self.vocab as usize * n, self.rows as usize));
        let row = |&token: &u32| match token < self.vocab {
            true => table[token as usize * n..][..n].to_vec(),
            false => vec![f32::NAN; n],
        };
        tokens.iter().flat_map(row).collect()
    }

    fn elements(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.n)
    }
}

impl Kernel for EmbedRows {
    fn name(&self) -> String {
        let element = self.element.name().to_lowercase();
        format!("embed_rows_{element}_v{}_n{}_b{}", self.vocab, self.n, self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let table = Param {
            name: "table",
            access: Access::Read,
            element: self.element,
            bytes: u64::from(self.vocab) * u64::from(self.row_bytes),
            align: if self.element == ElementType::F32 { 4 } else { 2 },
        };
        let y = f32_param("y", Access::Write, self.elements(), 4);
        vec![table, u32_param("tokens", self.rows.into()), y]
    }

    fn geometry(&self) -> LaunchGeometry {
        let blocks = self.elements().div_ceil(THREADS.into()) as u32;
        LaunchGeometry { grid: [blocks, 1, 1], block: [THREADS, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        let rows = u64::from(self.rows);
        // A product, or a product and a difference, for each value of a quantised row.
        let operations = match self.element {
            ElementType::Q4_K | ElementType::Q5_K => 2,
            ElementType::Q4_0 | ElementType::Q8_0 | ElementType::Q6_K => 1,
            _ => 0,
        };
        Cost {
            bytes_read: rows * (u64::from(self.row_bytes) + 4),
            bytes_written: self.elements() * 4,
            operations: self.elements() * operations,
        }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, [table, tokens, y]| {
            let index = emit::flat_index(k, self.elements(), THREADS);
            let (row, column) = emit::split(k, index, self.elements(), self.n);
            let at = k.ptr_index(tokens, row, 4);
            let token = k.ld_global::<U32>(at);
            k.comment("the table is read at row 0 where there is no such token");
            let known = k.lt(token, self.vocab);
            let token = k.selp(known, token, 0);
            let table = Table { element: self.element, rows: self.vocab, cols: self.n, base: table };
            let value = table.element(k, token, column);
            let value = k.selp(known, value, f32::NAN);
            let at = k.ptr_index(y, index, 4);
            k.st_global::<F32>(at, value);
        })
    }
}

const TABLES: [ElementType; 8] = ElementType::WEIGHTS;

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let small = TABLES.map(|element| boxed(EmbedRows::new(element, 10, 256, 2)));
    let real = [(ElementType::Q4_K, 151_936, 1536), (ElementType::Q6_K, 128_256, 2048)];
    let real = real.map(|(element, vocab, n)| boxed(EmbedRows::new(element, vocab, n, 1)));
    small.into_iter().chain(real).collect()
}

/// `rows` rows of `row_bytes` random bytes that are valid blocks: the f16 scales are finite.
fn table_bytes(element: ElementType, bytes: usize, random: &mut Random) -> Vec<u8> {
    if element == ElementType::F32 {
        return random.f32s(bytes / 4).iter().flat_map(|v| v.to_le_bytes()).collect();
    }
    let mut table = random.bytes(bytes);
    let scales: &[usize] = match element {
        ElementType::Q4_K | ElementType::Q5_K => &[0, 2],
        ElementType::Q6_K => &[208],
        _ => &[0],
    };
    for block in table.chunks_mut(element.block_bytes()) {
        for &scale in scales {
            // Without its highest exponent bit an f16 or bf16 is below 2 in magnitude.
            block[scale + 1] &= 0xbf;
        }
    }
    table
}

/// The conformance cases of this family. The expectation is exact: see [`EmbedRows::reference`].
pub(crate) fn cases() -> Vec<Case> {
    let case = |element: ElementType, vocab: usize, n: usize, tokens: &[u32], data: &str| {
        let kernel = known(EmbedRows::new(element, vocab, n, tokens.len()));
        let mut random = Random::new(n as u64);
        let table = table_bytes(element, vocab * kernel.row_bytes as usize, &mut random);
        let mut values = vec![0.0; vocab * n];
        known(tensor_formats::dequantize_row(element, &table, &mut values).map_err(KernelError::from));
        let y = kernel.reference(&values, tokens).into_iter().map(f64::from).collect();
        let mut planes = vec![0; table.len()];
        known(to_planes(element, vocab, n, &table, &mut planes).map_err(KernelError::from));
        Case::new(kernel, data)
            .with_bytes("table", &planes)
            .with_u32("tokens", tokens)
            .expect_f32("y", y, n, 0.0)
    };
    let mut cases = Vec::new();
    for element in TABLES {
        for rows in [1, 2, 5, 8, 9, 16, 32] {
            let tokens: Vec<u32> = (0..rows).map(|r| (r * 11 + 5) % 23).collect();
            cases.push(case(element, 23, 512, &tokens, "batch"));
        }
        cases.push(case(element, 7, 768, &[6, 7, u32::MAX, 0, 1 << 31], "outside"));
        let block = element.block_elements();
        cases.push(case(element, 3, block, &[2, 0, 1], "one_block"));
        // Not the row that follows in the table: a row that is too long would go unnoticed.
        cases.push(case(element, 3, 7 * block, &[2, 0], "seven_blocks"));
    }
    cases
}
