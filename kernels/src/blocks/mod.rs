//! The code that turns a block of a GGUF format into registers.

pub(crate) mod partition;
mod q4_k;
mod q6_k;
mod q8_0;
mod scalar;
mod weight;

pub(crate) use weight::{Decoder, Q8Activations, Raw, WeightFormat};
