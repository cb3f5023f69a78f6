//! The model in the program itself: 5 million parameters that tell children's tales and solve small exercises.

use crate::error::Error;
use crate::gguf::Gguf;
use crate::model::Model;

/// A start address for the image at which every tensor in it is aligned.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!("../assets/tiny-q4_k_m.gguf"));

/// A prompt that shows what the embedded model can do.
pub const PROMPT: &str = "Once upon a time, there was a small fox named";

impl Model {
    /// The embedded model: llama architecture, Q4_K_M, context 1024.
    ///
    /// # Errors
    /// None, unless the program was built from a damaged asset.
    pub fn embedded() -> Result<Self, Error> {
        Ok(Self::from_gguf(Gguf::from_static(&IMAGE.0)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_model_opens_in_place() {
        let model = Model::embedded().unwrap();
        let bytes = model.tensor_bytes("token_embd.weight").unwrap();
        assert!(IMAGE.0.as_ptr_range().contains(&bytes.as_ptr()));
        assert_eq!(model.parameters(), 5_246_208);
        assert_eq!(model.name(), "tiny");
    }
}
