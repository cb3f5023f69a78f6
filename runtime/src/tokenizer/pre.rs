//! Pre-tokenizers: how text is cut into words before pairs are merged within them.
//!
//! GGUF names them in `tokenizer.ggml.pre`. The patterns are those of the models' own tokenizer files, or where a
//! model has none, of llama.cpp's table of the same names.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::TokenizerError;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The most bytes of white space in a row. The patterns look from behind a run of blanks whether a word follows, for which
/// the library keeps a note of each; with a million it would give up, and take the rest of the text for one word.
pub(super) const MAX_BLANKS: usize = 500_000;

/// The most bytes of a piece, for which the library takes more than a GB.
pub(super) const MAX_PIECE: usize = 1 << 23;

/// Refuses a piece of a text that is too long, or that cannot be cut into words.
///
/// # Errors
/// [`TokenizerError::Piece`] and [`TokenizerError::Blanks`].
pub(super) fn check_piece(text: &str) -> Result<(), TokenizerError> {
    if text.len() > MAX_PIECE {
        return Err(TokenizerError::Piece { limit: MAX_PIECE });
    }
    let mut runs = text.split(|c: char| !c.is_whitespace());
    if text.len() > MAX_BLANKS && runs.any(|run| run.len() > MAX_BLANKS) {
        return Err(TokenizerError::Blanks { limit: MAX_BLANKS });
    }
    Ok(())
}

/// Where a text can be cut without another word in it: before a space that follows something else than white space, and
/// behind a newline that has no white space beside it. No pattern goes on there, none looks past it, and each begins anew.
fn is_cut(before: &str, after: &str) -> bool {
    match before.strip_suffix('\n') {
        Some(line) => !line.ends_with(char::is_whitespace) && !after.starts_with(char::is_whitespace),
        None => after.starts_with(' ') && !before.ends_with(char::is_whitespace),
    }
}

/// A text in pieces of at least `least` bytes, but for the last, whose words are those of the text. They are as long as it
/// takes where there is no such place.
pub(super) fn pieces(text: &str, least: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let near = (least.max(1)..rest.len()).filter(|&at| bytes[at] == b' ' || bytes[at - 1] == b'\n');
        let mut ends = near.filter(|&at| is_cut(&rest[..at], &rest[at..]));
        let (piece, after) = rest.split_at(ends.next().unwrap_or(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A pre-tokenizer and what comes with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pre {
    /// Applied in order, each to the pieces that the one before left.
    patterns: &'static [&'static str],
    /// Whether a word that is a token is taken as such, whatever the merges would make of it.
    pub ignore_merges: bool,
    /// Whether a start token comes first when the metadata does not say.
    pub add_bos: bool,
    /// Whether a letter and the marks behind it become one character first, where Unicode has it (NFC).
    pub composes: bool,
}

/// Every name that is understood, for the error message.
pub(super) const SUPPORTED: &[&str] = &[
    "default",
    "gpt-2",
    "phi-2",
    "olmo",
    "llama-bpe",
    "llama3",
    "llama-v3",
    "dbrx",
    "smaug-bpe",
    "qwen2",
    "deepseek-r1-qwen",
    "stablelm2",
    "smollm",
    "starcoder",
    "refact",
    "command-r",
];

impl Pre {
    pub fn by_name(name: &str) -> Result<Self, TokenizerError> {
        let plain = |patterns| Self { patterns, ignore_merges: false, add_bos: false, composes: false };
        Ok(match name {
            "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
            "gpt-2" | "phi-2" | "olmo" => plain(&[GPT2]),
            "llama-bpe" | "llama3" | "llama-v3" => {
                Self { ignore_merges: true, add_bos: true, ..plain(&[LLAMA3]) }
            }
            "dbrx" | "smaug-bpe" => plain(&[LLAMA3]),
            "qwen2" => Self { composes: true, ..plain(&[QWEN2]) },
            "deepseek-r1-qwen" | "stablelm2" => plain(&[QWEN2]),
            "smollm" | "starcoder" | "refact" | "command-r" => plain(&[r"\p{N}", GPT2]),
            other => return Err(TokenizerError::Pre { found: other.to_owned(), supported: SUPPORTED }),
        })
    }

    /// The splits, and the byte-level alphabet after them.
    pub fn build(self) -> tokenizers::Result<Sequence> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::with_capacity(self.patterns.len() + 1);
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::normalizers::NFC;
    use tokenizers::{
        NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    };

    use super::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        let pre = Pre::by_name(name).unwrap().build().unwrap();
        let mut string = PreTokenizedString::from(text);
        pre.pre_tokenize(&mut string).unwrap();
        let splits = string.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (start, end), _)| text[start..end].to_owned()).collect()
    }

    fn composed(text: &str) -> String {
        let mut string = NormalizedString::from(text);
        NFC.normalize(&mut string).unwrap();
        string.get().to_owned()
    }

    #[test]
    fn every_supported_name_builds() {
        for name in SUPPORTED {
            assert_eq!(words(name, "don't panic").concat(), "don't panic", "{name}");
        }
    }

    #[test]
    fn numbers_are_cut_as_each_model_cuts_them() {
        assert_eq!(words("llama-bpe", "12345 x"), ["123", "45", " x"]);
        assert_eq!(words("qwen2", "123 x"), ["1", "2", "3", " x"]);
        assert_eq!(words("gpt-2", "a 12345"), ["a", " 12345"]);
        assert_eq!(words("smollm", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(words("default", "a 12345=b"), ["a", " ", "123", "45", "=", "b"]);
    }

    #[test]
    fn contractions_and_spaces() {
        assert_eq!(words("llama-bpe", "WE'VE  two\n\n x"), ["WE", "'VE", " ", " two", "\n\n", " x"]);
        assert_eq!(words("gpt-2", "WE'VE we've"), ["WE", "'", "VE", " we", "'ve"]);
    }

    #[test]
    fn blanks_without_end_are_cut_off_or_refused() {
        for name in ["gpt-2", "llama-bpe"] {
            for run in [" ", "\u{3000}"] {
                let text = format!("{}a b", run.repeat(MAX_BLANKS / run.len()));
                assert!(check_piece(&text).is_ok());
                assert_eq!(words(name, &text).last().map(String::as_str), Some(" b"), "{name}, {run:?}");
            }
        }
        let text = " ".repeat(MAX_BLANKS + 1);
        assert!(check_piece(&text.replacen(' ', "_", 2)).is_ok());
        for text in [format!("a{text}b"), format!("a b{}c", text.replace(' ', "\n")), text] {
            let message = check_piece(&text).unwrap_err().to_string();
            assert_eq!(message, "the text has more than 500000 bytes of blanks in a row");
        }
    }

    proptest! {
        #[test]
        fn the_words_of_pieces_are_those_of_the_text(
            text in "([ \n\r\t\u{1c}\u{85}\u{a0}\u{200b}\u{2028}\u{3000}]{0,3}([a-z]{1,3}|['.!(é日٣\u{301}🦊_]|[0-9]{1,5}|'s|\r\n)){0,24} {0,2}",
            least in 0usize..12,
        ) {
            let whole: Vec<&str> = pieces(&text, least).collect();
            prop_assert_eq!(whole.concat(), text.as_str());
            prop_assert_eq!(whole.iter().map(|piece| composed(piece)).collect::<String>(), composed(&text));
            for name in ["default", "gpt-2", "llama-bpe", "qwen2", "smollm"] {
                let of_pieces: Vec<_> = whole.iter().flat_map(|piece| words(name, piece)).collect();
                prop_assert_eq!(of_pieces, words(name, &text), "{}", name);
            }
        }
    }

    #[test]
    fn pieces_end_where_a_word_does() {
        assert_eq!(pieces("a bc  d e", 0).collect::<Vec<_>>(), ["a", " bc", "  d", " e"]);
        assert_eq!(pieces("a bc\n d. e", 3).collect::<Vec<_>>(), ["a bc\n d.", " e"]);
        assert_eq!(pieces(" a", 0).collect::<Vec<_>>(), [" a"]);
        assert_eq!(pieces("日本 ", 1).collect::<Vec<_>>(), ["日本", " "]);
        assert_eq!(pieces("日本。\n月\nb", 0).collect::<Vec<_>>(), ["日本。\n", "月\n", "b"]);
        // A pattern that leaves the last blank to what follows would not leave it at the end of a piece.
        for whole in ["a\r\nb", "a\n\nb", "a\n\tb"] {
            assert_eq!(pieces(whole, 0).collect::<Vec<_>>(), [whole]);
        }
        assert_eq!(pieces("", 0).count(), 0);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let message = Pre::by_name("klingon").unwrap_err().to_string();
        assert!(message.starts_with("pre-tokenizer \"klingon\" is not supported"), "{message}");
        assert!(message.contains("llama-bpe"), "{message}");
    }
}
