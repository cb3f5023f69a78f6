//! The kernels that tools iterate over.

use crate::Kernel;

/// The rows of one family.
type Family = fn() -> Vec<Box<dyn Kernel>>;

/// Every kernel variant at a small shape, and the common ones at the shapes of real models: what `ptx-dump` lists,
/// what ptxas checks and what the benches emit. Names are unique.
pub fn catalogue() -> Vec<Box<dyn Kernel>> {
    let families: [Family; 14] = [
        crate::embed::catalogue,
        crate::rms_norm::catalogue,
        crate::gemv::catalogue,
        crate::projection::catalogue,
        crate::quantize::catalogue,
        crate::elementwise::catalogue,
        crate::copy::catalogue,
        crate::stream_read::catalogue,
        crate::rope::catalogue,
        crate::kv_scatter::catalogue,
        crate::attention::catalogue,
        crate::soft_max::catalogue,
        crate::argmax::catalogue,
        crate::sample::catalogue,
    ];
    families.into_iter().flat_map(|family| family()).collect()
}
