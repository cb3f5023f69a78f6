//! What the kernels compute, in f64 but for the quantisation of activations, which is what it is.

use tensor_formats::reference::dequantize_row_f64;
use tensor_formats::{ElementType, FormatError, quantize_row};

use super::gemm::padded;
use super::{
    AttentionInput, GatedProjection, Gemm, GreedyHead, HalfRows, Head, Projection, ResidualProjection,
    Rotation, Segment,
};
use crate::KernelError;
use crate::argmax::first_largest;
use crate::blocks::half;
use crate::factor::{self, Factor};

/// What [`AttentionInput::reference`] reads: the kernel's parameters, weights in GGUF's layout.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// `[batch, cols]`
    pub x: &'a [f32],
    /// `[cols]`
    pub norm: &'a [f32],
    /// Of query, key and value.
    pub weights: [&'a [u8]; 3],
    /// Of query, key and value.
    pub biases: Option<[&'a [f32]; 3]>,
    /// `[batch]`
    pub positions: &'a [u32],
    /// `[table_positions, head_dim / 2, 2]`
    pub table: &'a [f32],
}

impl AttentionInput {
    /// Queries, and the keys and values of each row, `[batch, features]`.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, inputs: AttentionInputs<'_>) -> Result<[Vec<f64>; 3], KernelError> {
        let AttentionInputs { x, norm, weights, biases, positions, table } = inputs;
        let staged = self.0.staged(x, Some(norm))?;
        let biases = biases.unwrap_or_default();
        let met = Met { matrices: &weights, biases: &biases, positions, table, residual: &[] };
        self.0.results(&staged, &met).map(three)
    }
}

/// The results of the three segments of an attention's input.
fn three(results: Vec<Vec<f64>>) -> [Vec<f64>; 3] {
    let mut results = results.into_iter();
    std::array::from_fn(|_| results.next().unwrap_or_default())
}

impl ResidualProjection {
    /// `[batch, rows]`, given `w` in GGUF's layout.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(
        &self,
        x: &[f32],
        w: &[u8],
        bias: Option<&[f32]>,
        residual: &[f32],
    ) -> Result<Vec<f64>, KernelError> {
        let biases = [bias.unwrap_or_default()];
        let met = Met { matrices: &[w], biases: &biases, residual, ..Met::default() };
        self.0.results(&self.0.staged(x, None)?, &met).map(|mut results| results.swap_remove(0))
    }
}

impl GatedProjection {
    /// `[batch, rows]`, given `gate` and `up` in GGUF's layout.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(
        &self,
        x: &[f32],
        norm: &[f32],
        gate: &[u8],
        up: &[u8],
    ) -> Result<Vec<f64>, KernelError> {
        let met = Met { matrices: &[gate, up], ..Met::default() };
        self.0.results(&self.0.staged(x, Some(norm))?, &met).map(|mut results| results.swap_remove(0))
    }
}

impl Head {
    /// `[batch, rows]`, given `w` in GGUF's layout.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, x: &[f32], norm: &[f32], w: &[u8]) -> Result<Vec<f64>, KernelError> {
        let met = Met { matrices: &[w], ..Met::default() };
        self.0.results(&self.0.staged(x, Some(norm))?, &met).map(|mut results| results.swap_remove(0))
    }
}

impl GreedyHead {
    /// `[batch]`, given `w` in GGUF's layout: right unless results are so close that rounding decides.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, x: &[f32], norm: &[f32], w: &[u8]) -> Result<Vec<u32>, KernelError> {
        let met = Met { matrices: &[w], ..Met::default() };
        let y = self.0.results(&self.0.staged(x, Some(norm))?, &met)?.swap_remove(0);
        let rows = y.chunks(self.0.segments[0].features() as usize);
        Ok(rows.map(|row| first_largest(row.iter().copied())).collect())
    }
}

impl Projection {
    /// The activations as the products see them.
    fn staged(&self, x: &[f32], norm: Option<&[f32]>) -> Result<Vec<f64>, KernelError> {
        let (cols, batch) = (self.stage.cols as usize, self.stage.batch as usize);
        check("values of x", batch * cols, x.len())?;
        let mut row_bytes = vec![0; ElementType::Q8Act.row_bytes(cols)?];
        let mut staged = vec![0.0; x.len()];
        for (x, staged) in x.chunks(cols).zip(staged.chunks_mut(cols)) {
            let (weighted, factor) = weighted(x, norm.zip(self.stage.eps))?;
            match self.stage.factor {
                Some(rounded) => round_groups(rounded, &weighted, staged),
                None => {
                    quantize_row(ElementType::Q8Act, &weighted, &mut row_bytes)?;
                    dequantize_row_f64(ElementType::Q8Act, &row_bytes, staged)?;
                }
            }
            staged.iter_mut().for_each(|v| *v *= factor);
        }
        Ok(staged)
    }

    fn results(&self, staged: &[f64], met: &Met<'_>) -> Result<Vec<Vec<f64>>, KernelError> {
        results(&self.segments, (self.stage.batch as usize, self.stage.cols as usize), staged, met)
    }
}

/// A row times the weights of a norm, if there is one, and the factor that is the same for all of it.
fn weighted(x: &[f32], norm: Option<(&[f32], f32)>) -> Result<(Vec<f32>, f64), FormatError> {
    let Some((norm, eps)) = norm else { return Ok((x.to_vec(), 1.0)) };
    check("values of norm", x.len(), norm.len())?;
    let squares: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
    let factor = (squares / x.len() as f64 + f64::from(eps)).sqrt().recip();
    Ok((x.iter().zip(norm).map(|(v, w)| v * w).collect(), factor))
}

/// The largest magnitude; what is no number is larger than all.
fn largest(values: &[f32]) -> f32 {
    f32::from_bits(values.iter().map(|v| v.to_bits() & 0x7fff_ffff).fold(0, u32::max))
}

/// Groups of values as floats of 16 bits with a scale; a group in which one is no finite number has none.
fn round_groups(to: Factor, values: &[f32], rounded: &mut [f64]) {
    let group = ElementType::Q8Act.block_elements();
    for (values, rounded) in values.chunks(group).zip(rounded.chunks_mut(group)) {
        let largest = largest(values);
        let [up, down] = factor::range_of(largest);
        let down = if largest.is_finite() { f64::from(down) } else { f64::NAN };
        rounded.iter_mut().zip(values).for_each(|(r, v)| *r = f64::from(to.round(v * up)) * down);
    }
}

impl Gemm {
    /// The results of each segment, `[batch, features]`: of an attention's input queries, keys and values. `x` and `factors`
    /// are what [`HalfRows::reference`] gives.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, x: &[f32], factors: &[f64], met: &Met<'_>) -> Result<Vec<Vec<f64>>, KernelError> {
        let (batch, cols) = self.size();
        check("values of x", padded(batch as u32) as usize * cols, x.len())?;
        let rows = x.chunks(cols).zip(factors).take(batch);
        let staged: Vec<f64> = rows
            .flat_map(|(x, factor)| {
                let steps = x.chunks(half::STEP_COLS as usize);
                steps
                    .flat_map(|step| {
                        (0..half::STEP_COLS).map(|col| f64::from(step[half::place(col) as usize]))
                    })
                    .map(|value| value * factor)
                    .collect::<Vec<_>>()
            })
            .collect();
        results(self.segments(), (batch, cols), &staged, met)
    }
}

impl HalfRows {
    /// The halves, whose values f32 holds, and the factors; both with those of rows that are filled up.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, x: &[f32], norm: Option<&[f32]>) -> Result<(Vec<f32>, Vec<f64>), KernelError> {
        let (rows, cols, eps) = self.size();
        check("values of x", rows * cols, x.len())?;
        check("values of norm", if eps.is_some() { cols } else { 0 }, norm.unwrap_or_default().len())?;
        let [bytes, _] = self.bytes();
        let (mut halves, mut factors) = (vec![0.0; bytes as usize / 2], vec![0.0; bytes as usize / 2 / cols]);
        let filled = halves.chunks_mut(cols).zip(&mut factors);
        for (x, (halves, factor)) in x.chunks(cols).zip(filled) {
            let (weighted, root) = weighted(x, norm.zip(eps))?;
            let [up, down] = factor::range_of(largest(&weighted));
            *factor = root * f64::from(down);
            for (col, value) in (0u32..).zip(&weighted) {
                let (step, of_step) = (col / half::STEP_COLS, col % half::STEP_COLS);
                let at = step * half::STEP_COLS + half::place(of_step);
                halves[at as usize] = self.round(value * up);
            }
        }
        Ok((halves, factors))
    }
}

/// What the segments of a kernel meet beside their activations; of what they do not have nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met<'a> {
    /// The matrices of all segments in GGUF's layout, in the order of the parameters.
    pub matrices: &'a [&'a [u8]],
    /// `[features]` of each segment.
    pub biases: &'a [&'a [f32]],
    /// `[batch]`
    pub positions: &'a [u32],
    /// `[table_positions, head_dim / 2, 2]`
    pub table: &'a [f32],
    /// `[batch, features]`
    pub residual: &'a [f32],
}

/// The results of each segment, `[batch, features]`.
fn results(
    segments: &[Segment],
    (batch, cols): (usize, usize),
    staged: &[f64],
    met: &Met<'_>,
) -> Result<Vec<Vec<f64>>, KernelError> {
    let mut matrices = met.matrices.iter();
    let mut all = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let products = matrices.by_ref().take(segment.names.matrices.len());
        let products: Vec<Vec<f64>> =
            products.map(|w| product(segment, (batch, cols), w, staged)).collect::<Result<_, _>>()?;
        check("matrices", segment.names.matrices.len(), products.len())?;
        let mut y = match &products[..] {
            [gate, up] => gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect(),
            _ => products.concat(),
        };
        add_bias(segment, met.biases.get(index).copied(), &mut y)?;
        if let Some(rotation) = segment.rotation {
            check("positions", batch, met.positions.len())?;
            check("values of table", (rotation.max_seq * rotation.head_dim) as usize, met.table.len())?;
            rotate(segment, rotation, met, &mut y);
        }
        if segment.residual {
            check("values of residual", y.len(), met.residual.len())?;
            y.iter_mut().zip(met.residual).for_each(|(y, &residual)| *y += f64::from(residual));
        }
        all.push(y);
    }
    Ok(all)
}

/// Rotates the pairs of every row.
fn rotate(segment: &Segment, rotation: Rotation, met: &Met<'_>, y: &mut [f64]) {
    let (head_dim, distance) = (rotation.head_dim as usize, segment.pairing.distance() as usize);
    let features = segment.features() as usize;
    for (y, &position) in y.chunks_mut(features).zip(met.positions) {
        for (head, pair) in (0..features / head_dim).flat_map(|h| (0..head_dim / 2).map(move |p| (h, p))) {
            let entry = |part: usize| match position < rotation.max_seq {
                true => f64::from(met.table[position as usize * head_dim + 2 * pair + part]),
                false => f64::NAN,
            };
            let first = head * head_dim + if distance == 1 { 2 * pair } else { pair };
            let (a, b) = (y[first], y[first + distance]);
            y[first] = a * entry(0) - b * entry(1);
            y[first + distance] = a * entry(1) + b * entry(0);
        }
    }
}

/// `[batch, matrix rows]`.
fn product(
    segment: &Segment,
    (batch, cols): (usize, usize),
    w: &[u8],
    staged: &[f64],
) -> Result<Vec<f64>, KernelError> {
    let rows = segment.matrix_rows() as usize;
    check("bytes of a matrix", segment.element.matrix_bytes(rows, cols)?, w.len())?;
    let mut y = vec![0.0; batch * rows];
    let mut values = vec![0.0; cols];
    for (o, row) in w.chunks(w.len() / rows).enumerate() {
        dequantize_row_f64(segment.element, row, &mut values)?;
        for (b, x) in staged.chunks(cols).enumerate() {
            y[b * rows + o] = values.iter().zip(x).map(|(w, x)| w * x).sum();
        }
    }
    Ok(y)
}

/// Adds the bias to every row of `y`, if the segment has one; no bias and an empty one are the same.
fn add_bias(segment: &Segment, bias: Option<&[f32]>, y: &mut [f64]) -> Result<(), FormatError> {
    let (features, bias) = (segment.features() as usize, bias.unwrap_or_default());
    check("values of bias", if segment.bias { features } else { 0 }, bias.len())?;
    for y in y.chunks_mut(features) {
        y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += f64::from(bias));
    }
    Ok(())
}

fn check(what: &'static str, expected: usize, actual: usize) -> Result<(), FormatError> {
    if expected == actual { Ok(()) } else { Err(FormatError::Length { what, expected, actual }) }
}
