//! Text to token ids and back.

mod error;

pub use error::TokenizerError;
