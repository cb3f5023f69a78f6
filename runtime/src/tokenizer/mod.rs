//! Text to token ids and back: byte-level BPE from a file's metadata.
//!
//! ```
//! use runtime::{Model, tokenizer::Tokenizer};
//!
//! let model = Model::embedded()?;
//! let tokenizer = Tokenizer::for_model(&model)?;
//! let ids = tokenizer.encode("Once upon a time")?;
//! assert_eq!(ids, [0, 694, 693, 260, 454]);
//! assert_eq!(tokenizer.decode(&ids)?, "Once upon a time");
//! # Ok::<(), runtime::Error>(())
//! ```

mod alphabet;
mod error;
mod pre;
mod stream;
mod vocabulary;

#[cfg(test)]
mod tests;

pub(crate) use alphabet::char_of;
pub use error::TokenizerError;
pub use stream::TextStream;
use tokenizers::models::bpe::{BPE, BpeBuilder};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{
    AddedToken, DecoderWrapper, Model as _, NormalizedString, Normalizer as _, NormalizerWrapper,
    PostProcessorWrapper, TokenizerImpl,
};
pub use vocabulary::TokenKind;
use vocabulary::Vocabulary;

use self::pre::Pre;
use crate::error::Error;
use crate::gguf::Metadata;
use crate::model::Model;
use crate::startup::phase;

type Library = TokenizerImpl<BPE, NormalizerWrapper, Sequence, PostProcessorWrapper, DecoderWrapper>;

/// Names that models give to tokens which end a turn or a text, beside those that the metadata names. What is called so
/// is nothing else, whatever kind the file says that it is.
const END_NAMES: [&str; 18] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|EOT|>",
    "<EOT>",
    "[EOS]",
    // Behind these, models of code begin with another file.
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<fim_pad>",
    "<reponame>",
    "<repo_name>",
    "<file_sep>",
];

/// The library takes a hundred times the memory of a text for it, so a long one is given to it piece by piece.
const PIECE_BYTES: usize = 1 << 16;

/// The most bytes of a name that counts as a token. The library takes the square of it to recognise one.
const MAX_NAME: usize = 1 << 10;

/// A name that is also a tag of HTML: the end of a text if the file says that it is a control token.
const END_TAG: &str = "</s>";

/// A byte-level BPE tokenizer.
///
/// The names of control tokens and user-defined tokens in a text count as these tokens. What ends a text is a control
/// token, whatever the file calls it.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    library: Library,
    vocabulary: Vocabulary,
    bos: Option<u32>,
    add_bos: bool,
    end_tokens: Vec<u32>,
    /// The bytes for which there is no token. Vocabularies may lack what never occurs in UTF-8, and what their makers
    /// never met.
    missing: Vec<u8>,
    /// Whether a text may be cut wherever its words may: none of the names that count as tokens goes on there.
    cuts: bool,
}

impl Tokenizer {
    /// The tokenizer of a model's file.
    ///
    /// # Errors
    /// As [`from_metadata`](Self::from_metadata), and a vocabulary of another size than the model's.
    pub fn for_model(model: &Model) -> Result<Self, Error> {
        let _phase = phase!("tokenizer").entered();
        let tokenizer = Self::from_metadata(model.gguf().metadata())?;
        let (tokens, n_vocab) = (tokenizer.n_vocab(), model.config().n_vocab);
        if tokens != n_vocab {
            return Err(TokenizerError::Vocabulary { tokens, n_vocab }.into());
        }
        Ok(tokenizer)
    }

    /// The tokenizer that metadata describes.
    ///
    /// # Errors
    /// No tokenizer, one of a kind or with a pre-tokenizer that is not supported, or one that is damaged.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        match metadata.str("tokenizer.ggml.model")? {
            "gpt2" => {}
            "none" | "no_vocab" => return Err(TokenizerError::None),
            other => return Err(TokenizerError::Model { found: other.to_owned() }),
        }
        let pre = match metadata.opt_str("tokenizer.ggml.pre")? {
            Some(name) => Pre::by_name(name)?,
            None => {
                tracing::warn!("tokenizer.ggml.pre is missing, the default pre-tokenizer is used");
                Pre::by_name("default")?
            }
        };
        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let mut kinds = vocabulary::kinds(metadata, tokens.len())?;
        let end_tokens = end_tokens(metadata, &tokens, &kinds)?;
        for &id in &end_tokens {
            kinds[id as usize] = TokenKind::Control;
        }
        let vocabulary = Vocabulary::new(&tokens, kinds);
        let bos = special_id(metadata, "bos", tokens.len())?;
        let add_bos =
            metadata.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(pre.add_bos && bos.is_some());
        if add_bos && bos.is_none() {
            return Err(TokenizerError::NoBos);
        }
        let is_name = |id| matches!(vocabulary.kind(id), Some(TokenKind::Control | TokenKind::UserDefined));
        let names = || (0..).zip(&tokens).filter(|&(id, _)| is_name(id));
        if let Some((id, name)) = names().find(|(_, name)| name.len() > MAX_NAME) {
            return Err(TokenizerError::Name { token: id as usize, bytes: name.len(), limit: MAX_NAME });
        }
        let library = build(metadata, &tokens, &vocabulary, pre)?;
        let token = |byte| library.get_model().token_to_id(&char_of(byte).to_string());
        let missing = (0..=255).filter(|&byte| token(byte).is_none()).collect();
        let cuts = !names().any(|(_, name)| pre::pieces(name, 0).nth(1).is_some());
        Ok(Self { library, vocabulary, bos, add_bos, end_tokens, missing, cuts })
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.vocabulary.len()
    }

    /// The token that starts a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether [`encode`](Self::encode) puts the start token first.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// The tokens that end a text or a turn.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// What token `id` is.
    ///
    /// # Errors
    /// [`TokenizerError::Token`] for an id outside the vocabulary.
    pub fn kind(&self, id: u32) -> Result<TokenKind, TokenizerError> {
        self.vocabulary.kind(id).ok_or(TokenizerError::Token { id, n_vocab: self.n_vocab() })
    }

    /// The bytes of token `id`: not always whole characters.
    ///
    /// # Errors
    /// [`TokenizerError::Token`] for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Result<&[u8], TokenizerError> {
        self.vocabulary.bytes(id).ok_or(TokenizerError::Token { id, n_vocab: self.n_vocab() })
    }

    /// The tokens of `text`, after the start token where the model has it so.
    ///
    /// # Errors
    /// [`TokenizerError::Byte`] for a text with a byte that no token stands for, [`TokenizerError::Piece`],
    /// [`TokenizerError::Blanks`], and [`TokenizerError::Library`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_first(text, usize::MAX)
    }

    /// The first `n` tokens of [`encode`](Self::encode), without looking at much more of the text than these stand for.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), for what was looked at.
    pub fn encode_first(&self, text: &str, n: usize) -> Result<Vec<u32>, TokenizerError> {
        let least = if self.cuts { PIECE_BYTES } else { text.len() };
        let mut ids: Vec<u32> = self.bos.filter(|_| self.add_bos).into_iter().collect();
        for piece in pre::pieces(text, least) {
            if ids.len() >= n {
                break;
            }
            ids.extend(self.encode_piece(piece)?);
        }
        ids.truncate(n);
        Ok(ids)
    }

    fn encode_piece(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        pre::check_piece(text)?;
        let encoding = self
            .library
            .encode_fast(text, false)
            .map_err(|source| TokenizerError::Library { action: "encoding a text", source })?;
        let ids = encoding.get_ids();
        self.check_whole(text, ids)?;
        Ok(ids.to_vec())
    }

    /// Refuses a text of which `ids` lack a byte: the library leaves out what no token stands for. Such a byte may well
    /// be part of a longer token, as of a control token's name.
    fn check_whole(&self, text: &str, ids: &[u32]) -> Result<(), TokenizerError> {
        if !text.bytes().any(|byte| self.missing.contains(&byte)) {
            return Ok(());
        }
        let encoded: Vec<u8> =
            ids.iter().filter_map(|&id| self.vocabulary.bytes(id)).flatten().copied().collect();
        // Names of control tokens are not composed, whatever the rest is.
        let (text, encoded) = match String::from_utf8(encoded) {
            Ok(encoded) => (self.composed(text)?, self.composed(&encoded)?.into_bytes()),
            Err(torn) => (self.composed(text)?, torn.into_bytes()),
        };
        let mut encoded = encoded.into_iter();
        match text.bytes().find(|&byte| encoded.next() != Some(byte)) {
            Some(byte) => Err(TokenizerError::Byte { byte }),
            None => Ok(()),
        }
    }

    /// A text as words are cut out of it.
    fn composed(&self, text: &str) -> Result<String, TokenizerError> {
        let mut composed = NormalizedString::from(text);
        if let Some(normalizer) = self.library.get_normalizer() {
            let fail = |source| TokenizerError::Library { action: "composing characters", source };
            normalizer.normalize(&mut composed).map_err(fail)?;
        }
        Ok(composed.get().to_owned())
    }

    /// The text of `ids`. Control tokens and unused ones are nothing; bytes that are no characters come out as U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::Token`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let mut stream = self.stream();
        let mut text = String::new();
        for &id in ids {
            stream.push(id, &mut text)?;
        }
        stream.finish(&mut text);
        Ok(text)
    }

    /// Decodes tokens as they come.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }
}

fn build(
    metadata: &Metadata,
    tokens: &[&str],
    vocabulary: &Vocabulary,
    pre: Pre,
) -> Result<Library, TokenizerError> {
    let fail = |action| move |source| TokenizerError::Library { action, source };
    // Where a text occurs twice, its first token is the one to encode to.
    let vocab: tokenizers::models::bpe::Vocab =
        tokens.iter().enumerate().rev().map(|(id, &token)| (token.to_owned(), id as u32)).collect();
    let bpe = BpeBuilder::new()
        .vocab_and_merges(vocab, merges(metadata)?)
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(fail("building the merges"))?;
    let mut library = Library::new(bpe);
    library.with_normalizer(pre.composes.then_some(NormalizerWrapper::NFC(NFC)));
    library.with_pre_tokenizer(Some(pre.build().map_err(fail("building the pre-tokenizer"))?));
    let added = |kind: TokenKind| {
        let of_kind =
            tokens.iter().enumerate().filter(move |&(id, _)| vocabulary.kind(id as u32) == Some(kind));
        let special = kind == TokenKind::Control;
        of_kind.map(move |(_, &text)| AddedToken::from(text, special).normalized(false)).collect::<Vec<_>>()
    };
    library.add_tokens(&[added(TokenKind::Control), added(TokenKind::UserDefined)].concat());
    Ok(library)
}

/// The merges, each two tokens with a space between them.
fn merges(metadata: &Metadata) -> Result<Vec<(String, String)>, TokenizerError> {
    let merges = metadata.strings("tokenizer.ggml.merges")?;
    let parse = |(index, merge): (usize, &&str)| match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(TokenizerError::Merge { index, text: (*merge).to_owned() }),
    };
    merges.iter().enumerate().map(parse).collect()
}

/// `tokenizer.ggml.{name}_token_id`, checked against the vocabulary.
fn special_id(metadata: &Metadata, name: &str, n_vocab: usize) -> Result<Option<u32>, TokenizerError> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match metadata.opt_u32(&key)? {
        Some(id) if id as usize >= n_vocab => Err(TokenizerError::Special { key, id, n_vocab }),
        id => Ok(id),
    }
}

/// The end tokens that the metadata names, and those of well-known names, ascending.
fn end_tokens(metadata: &Metadata, tokens: &[&str], kinds: &[TokenKind]) -> Result<Vec<u32>, TokenizerError> {
    let mut ids = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ids.extend(special_id(metadata, name, tokens.len())?);
    }
    let ends = |(token, kind): (&&str, &TokenKind)| {
        END_NAMES.contains(token) || *token == END_TAG && *kind == TokenKind::Control
    };
    let named = (0..).zip(tokens.iter().zip(kinds)).filter(|&(_, token)| ends(token));
    ids.extend(named.map(|(id, _)| id));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
