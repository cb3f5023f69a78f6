//! A vocabulary of any size for byte-level BPE, so that a synthetic model can be given a text, and takes as long to
//! open as a trained one.

use crate::gguf::Writer;
use crate::tokenizer::char_of;

/// `llama_token_type` of the GGUF specification.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// Writes a vocabulary of `n_vocab` tokens: every byte, then pairs of bytes and pairs with a byte behind them, as many
/// as there is room for, and the token that ends a text. Each token of more than a byte is a merge.
pub(super) fn write(writer: &mut Writer, n_vocab: usize) {
    let bytes: Vec<String> = (0..=255).map(|byte| char_of(byte).to_string()).collect();
    let mut merges: Vec<(String, String)> = Vec::new();
    let room = n_vocab.saturating_sub(bytes.len() + 1);
    let pairs = bytes.iter().flat_map(|left| bytes.iter().map(|right| (left.clone(), right.clone())));
    merges.extend(pairs.take(room));
    for pair in 0..merges.len() {
        if merges.len() == room {
            break;
        }
        let left = format!("{}{}", merges[pair].0, merges[pair].1);
        let rest = room - merges.len();
        merges.extend(bytes.iter().take(rest).map(|right| (left.clone(), right.clone())));
    }
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let mut tokens: Vec<String> = bytes.iter().cloned().chain(merged).collect();
    tokens.push("<|endoftext|>".to_owned());
    let mut kinds = vec![NORMAL; tokens.len()];
    kinds[tokens.len() - 1] = CONTROL;
    let merges: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    writer
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "qwen2")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .strings("tokenizer.ggml.merges", &merges)
        .u32("tokenizer.ggml.eos_token_id", tokens.len() as u32 - 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Gguf, Storage};
    use crate::tokenizer::Tokenizer;

    #[test]
    fn a_text_goes_in_and_comes_out() {
        for n_vocab in [257, 300, 512, 70_000] {
            let mut writer = Writer::new();
            write(&mut writer, n_vocab);
            let file = Gguf::parse(Storage::copy(&writer.finish().unwrap()).unwrap()).unwrap();
            let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
            assert_eq!(tokenizer.n_vocab(), n_vocab);
            let text = "Grüße, 42 foxes!\n";
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert_eq!(tokenizer.end_tokens(), [n_vocab as u32 - 1]);
            if n_vocab == 70_000 {
                assert!(ids.len() < text.len() - 4, "{ids:?}");
            }
        }
    }
}
