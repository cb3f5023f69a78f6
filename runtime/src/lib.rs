//! Language models from GGUF files on NVIDIA GPUs and CPUs.
