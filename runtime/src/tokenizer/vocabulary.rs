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
    /// Neither: padding of the table, or of a kind that byte-level BPE does not use. Not printed.
    Unused,
}

impl TokenKind {
    /// The kind that the specification gives a number. What stands for unknown text (2) is a mark like the others.
    fn from_id(id: i32) -> Option<Self> {
        match id {
            1 => Some(Self::Normal),
            2 | 3 => Some(Self::Control),
            4 => Some(Self::UserDefined),
            5 | 6 => Some(Self::Unused),
            _ => None,
        }
    }
}

/// The kinds of a file's tokens, of which there are `n_vocab`.
pub(super) fn kinds(metadata: &Metadata, n_vocab: usize) -> Result<Vec<TokenKind>, TokenizerError> {
    let key = "tokenizer.ggml.token_type";
    match metadata.opt_i32s(key)? {
        Some(kinds) if kinds.len() == n_vocab => {
            let kind =
                |(token, found)| TokenKind::from_id(found).ok_or(TokenizerError::Kind { token, found });
            kinds.into_iter().enumerate().map(kind).collect()
        }
        Some(kinds) => Err(TokenizerError::Length { key, found: kinds.len(), expected: n_vocab }),
        None => Ok(vec![TokenKind::Normal; n_vocab]),
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
    /// Decodes the texts of `tokens`, each of its kind. A normal token with a character outside the alphabet, as some
    /// converters leave behind for added tokens, stands for its text.
    pub fn new(tokens: &[&str], kinds: Vec<TokenKind>) -> Self {
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
        Self { bytes, ends, kinds }
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
