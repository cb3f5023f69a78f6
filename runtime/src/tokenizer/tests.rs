//! Recorded token ids, decoding, and vocabularies that are refused.

use super::*;
use crate::gguf::{Gguf, Storage, Writer};

/// A vocabulary of the 256 bytes, `extra` tokens, and control tokens `<s>` and `</s>`.
fn writer(extra: &[&str], merges: &[&str]) -> Writer {
    let mut tokens: Vec<String> = (0..=255).map(|byte| alphabet::char_of(byte).to_string()).collect();
    tokens.extend(extra.iter().map(|&token| token.to_owned()));
    tokens.extend(["<s>".to_owned(), "</s>".to_owned()]);
    let mut kinds = vec![1; tokens.len()];
    let n = tokens.len();
    kinds[n - 2..].fill(3);
    let mut writer = Writer::new();
    writer
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "llama-bpe")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .strings("tokenizer.ggml.merges", merges)
        .u32("tokenizer.ggml.bos_token_id", n as u32 - 2)
        .u32("tokenizer.ggml.eos_token_id", n as u32 - 1);
    writer
}

fn tokenizer(writer: &Writer) -> Result<Tokenizer, TokenizerError> {
    let gguf = Gguf::parse(Storage::copy(&writer.finish().unwrap()).unwrap()).unwrap();
    Tokenizer::from_metadata(gguf.metadata())
}

fn refusal(writer: &Writer) -> String {
    tokenizer(writer).unwrap_err().to_string()
}

#[test]
fn recorded_token_ids_are_exact() {
    let expected: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/data/expected.json")).unwrap();
    let cases = expected["tokenizer"].as_array().unwrap();
    assert_eq!(cases.len(), 20);
    let tokenizer = Tokenizer::for_model(&Model::embedded().unwrap()).unwrap();
    for case in cases {
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        let visible: String = text.replace("<|bos|>", "").replace("<|eos|>", "");
        assert_eq!(tokenizer.decode(&ids).unwrap(), visible);
    }
}

#[test]
fn a_word_that_is_a_token_needs_no_merges() {
    // "abc" cannot be reached by merges: only llama-bpe takes it whole.
    let whole = writer(&["ab", "abc"], &["a b"]);
    assert_eq!(tokenizer(&whole).unwrap().encode("abc").unwrap(), [258, 257]);
    let mut merged = Writer::new();
    let tokens: Vec<String> = (0..=255).map(|b| alphabet::char_of(b).to_string()).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).chain(["ab", "abc"]).collect();
    merged.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
    merged.strings("tokenizer.ggml.tokens", &tokens).strings("tokenizer.ggml.merges", &["a b"]);
    assert_eq!(tokenizer(&merged).unwrap().encode("abc").unwrap(), [256, 99]);
}

#[test]
fn special_tokens_count_in_text_and_vanish_in_output() {
    let t = tokenizer(&writer(&[], &[])).unwrap();
    assert_eq!((t.bos(), t.adds_bos(), t.end_tokens()), (Some(256), true, &[257][..]));
    let ids = t.encode("a<s>b</s>").unwrap();
    assert_eq!(ids, [256, 97, 256, 98, 257]);
    assert_eq!(t.decode(&ids).unwrap(), "ab");
    assert_eq!(t.kind(257).unwrap(), TokenKind::Control);
}

#[test]
fn characters_are_held_back_until_they_are_whole() {
    let t = tokenizer(&writer(&[], &[])).unwrap();
    let mut stream = t.stream();
    let mut seen = Vec::new();
    for byte in "é日🦊!".bytes() {
        let mut text = String::new();
        stream.push(byte.into(), &mut text).unwrap();
        seen.push(text);
    }
    assert_eq!(seen, ["", "é", "", "", "日", "", "", "", "🦊", "!"]);
}

#[test]
fn bytes_that_are_no_character_are_replaced() {
    let t = tokenizer(&writer(&[], &[])).unwrap();
    assert_eq!(t.decode(&[0xff, 97, 0xc3]).unwrap(), "\u{fffd}a\u{fffd}");
    assert_eq!(t.decode(&[0xe6, 0x97, 97]).unwrap(), "\u{fffd}a");
}

#[test]
fn ids_outside_the_vocabulary_are_refused() {
    let t = tokenizer(&writer(&[], &[])).unwrap();
    assert_eq!(t.decode(&[258]).unwrap_err().to_string(), "token 258 is outside the vocabulary of 258");
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let model = |name: &str| {
        let mut writer = Writer::new();
        writer.string("tokenizer.ggml.model", name);
        refusal(&writer)
    };
    assert!(model("llama").contains("\"llama\" is not supported"));
    assert!(model("none").contains("no tokenizer"));
    assert_eq!(
        refusal(&writer(&["x y z"], &["xyz"])),
        "merge 0, \"xyz\", is not two tokens with a space between them"
    );
    assert!(matches!(tokenizer(&writer(&[], &["a b"])), Err(TokenizerError::Library { .. })));
    let mut few = Writer::new();
    few.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "qwen2");
    few.strings("tokenizer.ggml.tokens", &["a"]).strings::<&str>("tokenizer.ggml.merges", &[]);
    assert_eq!(refusal(&few), "no token stands for the byte 0x00");
    let mut bos = writer(&[], &[]);
    bos.u32("tokenizer.ggml.eot_token_id", 999);
    assert_eq!(refusal(&bos), "tokenizer.ggml.eot_token_id = 999 is outside the vocabulary of 258");
    let mut short = Writer::new();
    short.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "qwen2");
    short.strings("tokenizer.ggml.tokens", &["a", "b"]).i32s("tokenizer.ggml.token_type", &[1]);
    assert_eq!(refusal(&short), "tokenizer.ggml.token_type has 1 entries, 2 are needed");
}
