//! The tokens of a model: their bytes and their kinds.

use super::{TokenizerError, alphabet};
use crate::gguf::Metadata;

/// What a token is, `llama_token_type` in the GGUF specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Text, in the byte-level alphabet.
    Normal,
    /// A mark for the model, such as the start of a text: recognised in prompts, not printed.
    Control,
    /// Text that was added to the vocabulary as it is: recognised in prompts and printed.
    UserDefined,
    /// Neither: padding of the table, or of a kind that byte-level BPE does not use.
    Unused,
}

impl TokenKind {
    fn from_id(id: i32) -> Self {
        match id {
            1 => Self::Normal,
            3 => Self::Control,
            4 => Self::UserDefined,
            _ => Self::Unused,
        }
    }
}

/// The bytes of every token, one after the other, and their kinds.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    kinds: Vec<TokenKind>,
}

impl Vocabulary {
    /// Reads the kinds and decodes the texts of `tokens`. A normal token with a character outside the alphabet, as
    /// some converters leave behind for added tokens, stands for its text.
    pub fn read(metadata: &Metadata, tokens: &[&str]) -> Result<Self, TokenizerError> {
        let key = "tokenizer.ggml.token_type";
        let kinds: Vec<_> = match metadata.opt_i32s(key)? {
            Some(kinds) if kinds.len() == tokens.len() => kinds.into_iter().map(TokenKind::from_id).collect(),
            Some(kinds) => {
                return Err(TokenizerError::Length { key, found: kinds.len(), expected: tokens.len() });
            }
            None => vec![TokenKind::Normal; tokens.len()],
        };
        let mut bytes = Vec::with_capacity(tokens.iter().map(|token| token.len()).sum());
        let mut ends = Vec::with_capacity(tokens.len());
        for (token, kind) in tokens.iter().zip(&kinds) {
            let start = bytes.len();
            let byte_level = *kind == TokenKind::Normal
                && token.chars().all(|c| alphabet::byte_of(c).map(|byte| bytes.push(byte)).is_some());
            if !byte_level {
                bytes.truncate(start);
                bytes.extend(token.as_bytes());
            }
            ends.push(bytes.len());
        }
        Ok(Self { bytes, ends, kinds })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        let index = id as usize;
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..end])
    }
}
