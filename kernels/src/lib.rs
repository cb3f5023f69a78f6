//! PTX kernel emitters for transformer decoding, each with a reference.
