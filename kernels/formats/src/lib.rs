//! Tensor element types and GGUF block formats: geometry, quantisation, dot products.
