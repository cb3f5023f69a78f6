//! The graph of one step: rows of tokens in, logits or the next tokens out.

use std::collections::HashMap;

use graph::{AttentionOperands, ComputeGraph, GraphError, RopeOperands, Shape, TensorId};
use tensor_formats::ElementType;

use super::{LayerWeights, Linear, ModelConfig, ModelError, Weight};
use crate::decoder::Output;
use crate::error::Error;

/// The sizes of a step's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Rows, each with a token, a position and a sequence.
    pub rows: usize,
    /// Number of KV caches.
    pub n_sequences: usize,
    /// Positions of each cache.
    pub max_seq: usize,
    /// The type of what the caches hold.
    pub kv: ElementType,
    /// What is computed besides the caches.
    pub output: Output,
}

/// The graph of a step, with the names of what the backend binds memory to.
#[derive(Debug, Clone)]
pub struct StepGraph {
    /// The graph, unfused.
    pub graph: ComputeGraph,
    /// Leaf `[rows]` U32: each row's token.
    pub tokens: TensorId,
    /// Leaf `[rows]` U32: each row's position.
    pub positions: TensorId,
    /// Leaf `[rows]` U32: each row's sequence.
    pub sequences: TensorId,
    /// Leaf `[max_seq, n_rot / 2, 2]` F32, see [`Model::rope_table`](super::Model::rope_table).
    pub rope_table: TensorId,
    /// For each layer the leaves of its keys and its values, `[n_sequences, n_kv_heads, max_seq, head_dim]` F32.
    pub kv: Vec<(TensorId, TensorId)>,
    /// Each weight's leaf with the name of its tensor in the file. A tensor that is used twice is one leaf.
    pub weights: Vec<(TensorId, String)>,
    /// `[result_rows, n_vocab]` F32, unless the output is the cache alone.
    pub logits: Option<TensorId>,
    /// `[result_rows]` U32, if the output is an argmax.
    pub argmax: Option<TensorId>,
}

/// Builds the graph of a step.
///
/// Only the rows that [`StepShape::output`] asks for go through the last norm and the head. With
/// [`Output::Cache`] there is no head at all, and the last layer ends where its keys and values are stored, beside its query.
///
/// # Errors
/// A step without rows, sequences or positions, or one whose sizes overflow.
pub fn build_step(config: &ModelConfig, shape: &StepShape) -> Result<StepGraph, Error> {
    let sizes = [shape.rows, shape.n_sequences, shape.max_seq];
    if sizes.iter().any(|&n| n == 0 || u32::try_from(n).is_err()) {
        let StepShape { rows, n_sequences, max_seq, .. } = *shape;
        return Err(ModelError::StepShape { rows, n_sequences, max_seq }.into());
    }
    Builder::new(config, shape).and_then(Builder::build).map_err(|source| Error::graph("step", source))
}

struct Builder<'a> {
    config: &'a ModelConfig,
    shape: &'a StepShape,
    step: StepGraph,
    leaves: HashMap<&'a str, TensorId>,
}

impl<'a> Builder<'a> {
    fn new(config: &'a ModelConfig, shape: &'a StepShape) -> Result<Self, GraphError> {
        let mut graph = ComputeGraph::new();
        let rows = Shape::new(&[shape.rows])?;
        let tokens = graph.add_leaf("tokens", ElementType::U32, rows)?;
        let positions = graph.add_leaf("positions", ElementType::U32, rows)?;
        let sequences = graph.add_leaf("sequences", ElementType::U32, rows)?;
        let table = Shape::new(&[shape.max_seq, config.rope.n_rot / 2, 2])?;
        let rope_table = graph.add_leaf("rope_table", ElementType::F32, table)?;
        let cache = Shape::new(&[shape.n_sequences, config.n_kv_heads, shape.max_seq, config.head_dim])?;
        let mut kv = Vec::with_capacity(config.n_layers);
        for layer in 0..config.n_layers {
            let keys = graph.add_leaf(format!("cache_k.{layer}"), shape.kv, cache)?;
            let values = graph.add_leaf(format!("cache_v.{layer}"), shape.kv, cache)?;
            kv.push((keys, values));
        }
        let (weights, logits, argmax) = (Vec::new(), None, None);
        let step = StepGraph { graph, tokens, positions, sequences, rope_table, kv, weights, logits, argmax };
        Ok(Self { config, shape, step, leaves: HashMap::new() })
    }

    fn build(mut self) -> Result<StepGraph, GraphError> {
        let config = self.config;
        let table = self.weight(&config.weights.token_embd)?;
        let mut x = self.step.graph.embed_rows(table, self.step.tokens)?;
        self.name(x, "embedding")?;
        for (index, layer) in config.weights.layers.iter().enumerate() {
            let keys_and_values_only = self.shape.output == Output::Cache && index + 1 == config.n_layers;
            x = self.layer(index, layer, x, keys_and_values_only)?;
        }
        if self.shape.output != Output::Cache {
            self.head(x)?;
        }
        Ok(self.step)
    }

    fn layer(
        &mut self,
        index: usize,
        layer: &'a LayerWeights,
        input: TensorId,
        keys_and_values_only: bool,
    ) -> Result<TensorId, GraphError> {
        let config = self.config;
        let normed = self.norm(input, &layer.attn_norm)?;
        let k = self.linear(&layer.attn_k, normed)?;
        let k = self.rope(k)?;
        let v = self.linear(&layer.attn_v, normed)?;
        let (cache_k, cache_v) = self.step.kv[index];
        let (positions, sequences) = (self.step.positions, self.step.sequences);
        let keys = self.step.graph.kv_scatter(cache_k, k, positions, sequences)?;
        let values = self.step.graph.kv_scatter(cache_v, v, positions, sequences)?;
        let q = self.linear(&layer.attn_q, normed)?;
        let query = self.rope(q)?;
        if keys_and_values_only {
            // The results are the caches; without a mark they would be dead code. The query comes along, so that the same
            // kernel makes the same bits whether a step ends here or not.
            for result in [keys, values, query] {
                self.step.graph.mark_output(result)?;
            }
            return Ok(input);
        }
        let scale = config.attention_scale;
        let operands = AttentionOperands { query, keys, values, positions, sequences, scale };
        let attended = self.step.graph.attention(operands)?;
        let projected = self.linear(&layer.attn_output, attended)?;
        let middle = self.step.graph.add(input, projected)?;
        self.name(middle, &format!("blk.{index}.attn_residual"))?;

        let normed = self.norm(middle, &layer.ffn_norm)?;
        let gate = self.linear(&layer.ffn_gate, normed)?;
        let up = self.linear(&layer.ffn_up, normed)?;
        let gate = self.step.graph.silu(gate)?;
        let hidden = self.step.graph.mul(gate, up)?;
        let down = self.linear(&layer.ffn_down, hidden)?;
        let output = self.step.graph.add(middle, down)?;
        self.name(output, &format!("blk.{index}.ffn_residual"))?;
        Ok(output)
    }

    /// The last norm and the head, over the rows that have a result.
    fn head(&mut self, x: TensorId) -> Result<(), GraphError> {
        let config = self.config;
        let rows = self.shape.output.result_rows(self.shape.rows);
        let x =
            if rows < self.shape.rows { self.step.graph.view(x, self.shape.rows - rows, rows)? } else { x };
        let normed = self.norm(x, &config.weights.output_norm)?;
        let logits = match &config.weights.output {
            Some(output) => self.linear(output, normed)?,
            None => {
                let table = self.weight(&config.weights.token_embd)?;
                self.step.graph.mul_mat(table, normed)?
            }
        };
        self.name(logits, "logits")?;
        self.step.logits = Some(logits);
        if self.shape.output.is_logits() {
            self.step.graph.mark_output(logits)?;
        } else {
            let argmax = self.step.graph.argmax(logits)?;
            self.name(argmax, "argmax")?;
            self.step.graph.mark_output(argmax)?;
            self.step.argmax = Some(argmax);
        }
        Ok(())
    }

    fn norm(&mut self, x: TensorId, weight: &'a Weight) -> Result<TensorId, GraphError> {
        let weight = self.weight(weight)?;
        self.step.graph.rms_norm(x, weight, self.config.rms_eps)
    }

    fn linear(&mut self, linear: &'a Linear, x: TensorId) -> Result<TensorId, GraphError> {
        let weight = self.weight(&linear.weight)?;
        let product = self.step.graph.mul_mat(weight, x)?;
        let Some(bias) = &linear.bias else { return Ok(product) };
        let bias = self.weight(bias)?;
        self.step.graph.add(product, bias)
    }

    fn rope(&mut self, input: TensorId) -> Result<TensorId, GraphError> {
        let rope = &self.config.rope;
        let (style, n_rot, head_dim) = (rope.style, rope.n_rot, self.config.head_dim);
        let (positions, table) = (self.step.positions, self.step.rope_table);
        self.step.graph.rope(RopeOperands { input, positions, table, style, n_rot, head_dim })
    }

    /// The weight's leaf, added on first use.
    fn weight(&mut self, weight: &'a Weight) -> Result<TensorId, GraphError> {
        if let Some(&leaf) = self.leaves.get(weight.name.as_str()) {
            return Ok(leaf);
        }
        let leaf = self.step.graph.add_leaf(&weight.name, weight.ty, Shape::new(&weight.dims)?)?;
        self.leaves.insert(&weight.name, leaf);
        self.step.weights.push((leaf, weight.name.clone()));
        Ok(leaf)
    }

    fn name(&mut self, id: TensorId, name: &str) -> Result<(), GraphError> {
        self.step.graph.set_name(id, name)
    }
}
