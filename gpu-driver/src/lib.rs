//! Hand-written, dynamically loaded binding to the CUDA driver API.
