//! Text from tokens as they come, without torn characters.

use super::{TokenKind, Tokenizer, TokenizerError};

/// Turns tokens into text one by one. A character whose bytes are spread over tokens is held back until it is whole;
/// bytes that can become no character come out as U+FFFD.
#[derive(Debug, Clone)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The beginning of a character.
    pending: Vec<u8>,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// Appends to `text` what token `id` completes. Control tokens and unused ones are nothing.
    ///
    /// # Errors
    /// [`TokenizerError::Token`] for an id outside the vocabulary.
    pub fn push(&mut self, id: u32, text: &mut String) -> Result<(), TokenizerError> {
        match self.tokenizer.kind(id)? {
            TokenKind::Normal | TokenKind::UserDefined => {}
            TokenKind::Control | TokenKind::Unused => return Ok(()),
        }
        self.pending.extend(self.tokenizer.token_bytes(id)?);
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(wrong) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[wrong..];
                }
            }
        }
        self.pending = rest.to_vec();
        Ok(())
    }

    /// Appends what is left: U+FFFD if the last character never became whole.
    pub fn finish(self, text: &mut String) {
        if !self.pending.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
