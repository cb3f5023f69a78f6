//! What the kernels compute, in f64 but for the quantisation of activations, which is what it is.

use tensor_formats::reference::dequantize_row_f64;
use tensor_formats::{ElementType, FormatError, quantize_row};

use super::{AttentionInput, GatedProjection, GreedyHead, Head, Projection, ResidualProjection, Segment};
use crate::KernelError;
use crate::argmax::first_largest;

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
        let staged = self.0.staged(inputs.x, Some(inputs.norm))?;
        check("positions", self.0.stage.batch as usize, inputs.positions.len())?;
        let mut outputs = [const { Vec::new() }; 3];
        for (index, (segment, output)) in self.0.segments.iter().zip(&mut outputs).enumerate() {
            let mut y = self.0.product(segment, inputs.weights[index], &staged)?;
            let features = segment.features() as usize;
            add_bias(segment, inputs.biases.map(|biases| biases[index]), &mut y)?;
            if let Some(rotation) = segment.rotation {
                let (head_dim, distance) = (rotation.head_dim as usize, segment.pairing.distance() as usize);
                check("values of table", rotation.max_seq as usize * head_dim, inputs.table.len())?;
                for (row, y) in y.chunks_mut(features).enumerate() {
                    let position = inputs.positions[row];
                    for (head, pair) in
                        (0..features / head_dim).flat_map(|h| (0..head_dim / 2).map(move |p| (h, p)))
                    {
                        let entry = |part: usize| match position < rotation.max_seq {
                            true => f64::from(inputs.table[position as usize * head_dim + 2 * pair + part]),
                            false => f64::NAN,
                        };
                        let first = head * head_dim + if distance == 1 { 2 * pair } else { pair };
                        let (a, b) = (y[first], y[first + distance]);
                        y[first] = a * entry(0) - b * entry(1);
                        y[first + distance] = a * entry(1) + b * entry(0);
                    }
                }
            }
            *output = y;
        }
        Ok(outputs)
    }
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
        let mut y = self.0.product(&self.0.segments[0], w, &self.0.staged(x, None)?)?;
        check("values of residual", y.len(), residual.len())?;
        y.iter_mut().zip(residual).for_each(|(y, &residual)| *y += f64::from(residual));
        add_bias(&self.0.segments[0], bias, &mut y)?;
        Ok(y)
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
        let staged = self.0.staged(x, Some(norm))?;
        let segment = &self.0.segments[0];
        let gate = self.0.product(segment, gate, &staged)?;
        let up = self.0.product(segment, up, &staged)?;
        Ok(gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect())
    }
}

impl Head {
    /// `[batch, rows]`, given `w` in GGUF's layout.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, x: &[f32], norm: &[f32], w: &[u8]) -> Result<Vec<f64>, KernelError> {
        self.0.product(&self.0.segments[0], w, &self.0.staged(x, Some(norm))?)
    }
}

impl GreedyHead {
    /// `[batch]`, given `w` in GGUF's layout: right unless results are so close that rounding decides.
    ///
    /// # Errors
    /// [`KernelError::Format`] if a slice does not have the length of its parameter.
    pub fn reference(&self, x: &[f32], norm: &[f32], w: &[u8]) -> Result<Vec<u32>, KernelError> {
        let y = self.0.product(&self.0.segments[0], w, &self.0.staged(x, Some(norm))?)?;
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
            let mut weighted = x.to_vec();
            let mut factor = 1.0;
            if let (Some(norm), Some(eps)) = (norm, self.stage.eps) {
                check("values of norm", cols, norm.len())?;
                let squares: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
                factor = (squares / cols as f64 + f64::from(eps)).sqrt().recip();
                weighted.iter_mut().zip(norm).for_each(|(v, &w)| *v *= w);
            }
            quantize_row(ElementType::Q8Act, &weighted, &mut row_bytes)?;
            dequantize_row_f64(ElementType::Q8Act, &row_bytes, staged)?;
            staged.iter_mut().for_each(|v| *v *= factor);
        }
        Ok(staged)
    }

    /// `[batch, matrix rows]`.
    fn product(&self, segment: &Segment, w: &[u8], staged: &[f64]) -> Result<Vec<f64>, KernelError> {
        let (rows, cols) = (segment.matrix_rows() as usize, self.stage.cols as usize);
        check("bytes of a matrix", segment.element.matrix_bytes(rows, cols)?, w.len())?;
        let mut y = vec![0.0; self.stage.batch as usize * rows];
        let mut values = vec![0.0; cols];
        for (o, row) in w.chunks(w.len() / rows).enumerate() {
            dequantize_row_f64(segment.element, row, &mut values)?;
            for (b, x) in staged.chunks(cols).enumerate() {
                y[b * rows + o] = values.iter().zip(x).map(|(w, x)| w * x).sum();
            }
        }
        Ok(y)
    }
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
