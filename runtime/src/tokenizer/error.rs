//! Why a file's tokenizer cannot be used.

use crate::error::Cause;
use crate::gguf::GgufError;

/// Why a file's tokenizer cannot be used, or a text or token not be translated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The tokenizer's metadata.
    #[error("the model's tokenizer")]
    Metadata(#[from] GgufError),
    /// A file without a tokenizer.
    #[error("the model has no tokenizer (tokenizer.ggml.model = \"none\"): it can only be run on token ids")]
    None,
    /// A kind of tokenizer that is not built here.
    #[error("tokenizer model {found:?} is not supported (gpt2, byte-level BPE, is)")]
    Model {
        /// The value of `tokenizer.ggml.model`.
        found: String,
    },
    /// A pre-tokenizer that is not built here.
    #[error("pre-tokenizer {found:?} is not supported (tokenizer.ggml.pre: {})", supported.join(", "))]
    Pre {
        /// The value of `tokenizer.ggml.pre`.
        found: String,
        /// Those that are.
        supported: &'static [&'static str],
    },
    /// A text with a byte that no token stands for.
    #[error("the text has the byte {byte:#04x}, for which the model has no token")]
    Byte {
        /// The byte.
        byte: u8,
    },
    /// A text whose words cannot be found.
    #[error("the text has more than {limit} bytes of blanks in a row")]
    Blanks {
        /// The most that there can be.
        limit: usize,
    },
    /// A text that would take too much memory.
    #[error("the text has more than {limit} bytes without a place to cut it")]
    Piece {
        /// The most that there can be.
        limit: usize,
    },
    /// A token that is recognised in texts by a name beyond reason.
    #[error("token {token} (tokenizer.ggml.tokens) is a name of {bytes} bytes, the limit is {limit}")]
    Name {
        /// The token.
        token: usize,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A token of a type that GGUF does not have.
    #[error("token {token} has the type {found} (tokenizer.ggml.token_type), must be from 1 to 6")]
    Kind {
        /// The token.
        token: usize,
        /// Its type.
        found: i32,
    },
    /// A merge that is not two tokens.
    #[error("merge {index}, {text:?}, is not two tokens with a space between them")]
    Merge {
        /// Which merge.
        index: usize,
        /// Its text.
        text: String,
    },
    /// Lists of the metadata that do not fit together.
    #[error("{key} has {found} entries, {expected} are needed")]
    Length {
        /// The list's key.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The length needed.
        expected: usize,
    },
    /// A special token outside the vocabulary.
    #[error("{key} = {id} is outside the vocabulary of {n_vocab}")]
    Special {
        /// The metadata key.
        key: String,
        /// The token.
        id: u32,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
    /// A vocabulary with fewer or more tokens than the model.
    #[error("the tokenizer has {tokens} tokens, the model {n_vocab}")]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding table.
        n_vocab: usize,
    },
    /// A start token that is asked for and not given.
    #[error("tokenizer.ggml.add_bos_token is set, but tokenizer.ggml.bos_token_id is missing")]
    NoBos,
    /// A token id outside the vocabulary.
    #[error("token {id} is outside the vocabulary of {n_vocab}")]
    Token {
        /// The token.
        id: u32,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
    /// A failure of the tokenizer library.
    #[error("tokenizer: {action}")]
    Library {
        /// What it was doing.
        action: &'static str,
        /// Why it failed.
        source: Cause,
    },
}
