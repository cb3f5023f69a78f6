//! Costs, counted by hand for one shape of each family: they are what throughput is computed from.

use kernels::argmax::Argmax;
use kernels::attention::Attention;
use kernels::copy::CopyRows;
use kernels::elementwise::{Elementwise, ElementwiseOp};
use kernels::embed::EmbedRows;
use kernels::kv_scatter::KvScatter;
use kernels::rms_norm::RmsNorm;
use kernels::rope::{Rope, RopeShape, RopeStyle};
use kernels::soft_max::SoftMax;
use kernels::stream_read::StreamRead;
use kernels::{CacheShape, Cost, Kernel, KernelError};
use tensor_formats::ElementType;

fn cost(read: u64, written: u64, operations: u64) -> Cost {
    Cost { bytes_read: read, bytes_written: written, operations }
}

#[test]
fn rows_are_read_and_written_once() -> Result<(), KernelError> {
    assert_eq!(RmsNorm::new(3, 100, 0.0)?.cost(0), cost(1200 + 400, 1200, 3 * 404));
    assert_eq!(SoftMax::new(3, 100, 1.0)?.cost(0), cost(1200, 1200, 1500));
    assert_eq!(Argmax::new(3, 100)?.cost(0), cost(1200, 12, 300));
    assert_eq!(StreamRead::new(2, 3)?.cost(0), cost(6 * 32_768, 2 * 8 * 4, 6 * 8192));
    assert_eq!(CopyRows::new(ElementType::Q8_0, 2, 64)?.cost(0), cost(136, 136, 0));
    let elementwise = |op| Elementwise::new(op, 3, 100).map(|kernel| kernel.cost(0));
    assert_eq!(elementwise(ElementwiseOp::Add)?, cost(2400, 1200, 300));
    assert_eq!(elementwise(ElementwiseOp::AddRow)?, cost(1600, 1200, 300));
    assert_eq!(elementwise(ElementwiseOp::Silu)?, cost(1200, 1200, 1200));
    assert_eq!(elementwise(ElementwiseOp::SwiGlu)?, cost(2400, 1200, 1500));
    Ok(())
}

#[test]
fn lookups_read_what_they_use_of_a_table() -> Result<(), KernelError> {
    let embed = EmbedRows::new(ElementType::Q4_K, 1000, 512, 3)?;
    assert_eq!(embed.cost(0), cost(3 * (288 + 4), 3 * 2048, 3 * 1024));
    // 16 pairs of each of 2 heads; a row reads its position and 16 cosines and sines.
    let shape = RopeShape { rows: 3, heads: 2, head_dim: 40, n_rot: 32, max_seq: 1000 };
    let rope = Rope::new(RopeStyle::NeoX, shape)?;
    assert_eq!(rope.cost(0), cost(3 * (320 + 4 + 128), 3 * 320, 3 * 2 * 16 * 6));
    Ok(())
}

#[test]
fn attention_reads_the_context_once_for_a_group_of_heads() -> Result<(), KernelError> {
    let cache =
        CacheShape { n_sequences: 2, n_kv_heads: 2, max_seq: 100, head_dim: 64, element: ElementType::F32 };
    assert_eq!(KvScatter::new(cache, 3)?.cost(50), cost(3 * (512 + 8), 3 * 512, 0));
    let attention = Attention::new(cache, 3, 8, 0.125)?;
    let (q, row_of_cache) = (8 * 64 * 4, 2 * 64 * 4);
    let operations = |context: u64| 3 * 8 * (context * (4 * 64 + 4) + 64);
    assert_eq!(attention.cost(50), cost(3 * (q + 8 + 2 * 50 * row_of_cache), 3 * q, operations(50)));
    assert_eq!(attention.cost(1 << 40), attention.cost(100), "a context is at most the cache");
    Ok(())
}
