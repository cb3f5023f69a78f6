//! The CUDA engine: a launch plan over emitted PTX, run eagerly or as an explicit CUDA graph.
