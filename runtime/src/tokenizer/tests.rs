//! Recorded token ids, decoding, and vocabularies that are refused.

use super::*;
use crate::gguf::{Gguf, Storage, Writer};

/// A vocabulary of the 256 bytes, `extra` tokens, and control tokens `<s>` and `</s>`.
fn writer(extra: &[&str], merges: &[&str]) -> Writer {
    let extra: Vec<_> = extra.iter().map(|&token| (token, 1)).collect();
    vocabulary_of((0..=255).collect(), &extra, merges)
}

/// A vocabulary of `bytes`, `extra` tokens with their types, and control tokens `<s>` and `</s>`.
fn vocabulary_of(bytes: Vec<u8>, extra: &[(&str, i32)], merges: &[&str]) -> Writer {
    vocabulary_for("llama-bpe", bytes, extra, merges)
}

/// The same, for the pre-tokenizer `pre`.
fn vocabulary_for(pre: &str, bytes: Vec<u8>, extra: &[(&str, i32)], merges: &[&str]) -> Writer {
    let mut tokens: Vec<String> = bytes.iter().map(|&byte| char_of(byte).to_string()).collect();
    let mut kinds = vec![1; tokens.len()];
    for &(token, kind) in extra.iter().chain(&[("<s>", 3), ("</s>", 3)]) {
        tokens.push(token.to_owned());
        kinds.push(kind);
    }
    let n = tokens.len();
    let mut writer = Writer::new();
    writer
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", pre)
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
fn qwen2_composes_characters_first() {
    // Without a token for the first byte of the accents.
    let file = |pre| {
        let bytes = (0..=255).filter(|&byte| byte != 0xcc).collect();
        tokenizer(&vocabulary_for(pre, bytes, &[("e\u{301}", 3)], &[])).unwrap()
    };
    let text = "cafe\u{301} o\u{308}<s>";
    let missing = file("llama-bpe").encode("o\u{308}");
    assert!(matches!(missing, Err(TokenizerError::Byte { byte: 0xcc })));
    let t = file("qwen2");
    // A name in the text stays what it is.
    assert_eq!(t.decode(&t.encode(text).unwrap()).unwrap(), "caf ö");
    assert_eq!(t.encode("o\u{308}").unwrap(), t.encode("ö").unwrap());
    let raw = tokenizer(&writer(&[], &[])).unwrap();
    assert_eq!(raw.decode(&raw.encode(text).unwrap()).unwrap(), "cafe\u{301} o\u{308}");
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
fn what_ends_a_text_is_a_control_token_whatever_the_file_calls_it() {
    let extra = [("<|im_end|>", 1), ("<end_of_turn>", 4), ("<file_sep>", 5), ("<|tool|>", 4), ("</b>", 1)];
    let mut file = vocabulary_of((0..=255).collect(), &extra, &[]);
    file.u32("tokenizer.ggml.eot_token_id", 260);
    let t = tokenizer(&file).unwrap();
    assert_eq!(t.end_tokens(), [256, 257, 258, 260, 262]);
    assert_eq!(t.encode("a<|im_end|></b>").unwrap(), [261, 97, 256, 260]);
    assert_eq!(t.decode(&[97, 256, 257, 258, 259, 260, 262, 98]).unwrap(), "a<|tool|>b");
    // A tag of HTML, unless the file says otherwise.
    let mut tag = Writer::new();
    let tokens: Vec<_> = (0..=255).map(|b| char_of(b).to_string()).chain(["</s>".to_owned()]).collect();
    tag.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "qwen2");
    tag.strings("tokenizer.ggml.tokens", &tokens).strings::<&str>("tokenizer.ggml.merges", &[]);
    let tag = tokenizer(&tag).unwrap();
    assert_eq!((tag.end_tokens(), tag.decode(&[256]).unwrap().as_str()), (&[][..], "</s>"));
}

#[test]
fn unknown_and_unused_tokens_are_not_printed() {
    let extra = [("<unk>", 2), ("[pad0]", 5), ("<0x0A>", 6), ("[tool]", 4)];
    let t = tokenizer(&vocabulary_of((0..=255).collect(), &extra, &[])).unwrap();
    assert_eq!(t.decode(&[97, 256, 257, 258, 259, 98]).unwrap(), "a[tool]b");
    assert_eq!(t.encode("<unk>").unwrap(), [260, 256]);
    for found in [-1, 0, 7, 99] {
        let file = vocabulary_of((0..=255).collect(), &[("x", found)], &[]);
        let expected = "token 256 has the type {} (tokenizer.ggml.token_type), must be from 1 to 6";
        assert_eq!(refusal(&file), expected.replace("{}", &found.to_string()));
    }
}

#[test]
fn a_byte_without_a_token_is_refused_where_a_text_has_it() {
    let bytes = (0..=255).filter(|byte| !matches!(byte, 0x04 | 0xc0 | 0xc1 | 0xe6 | 0xf5..));
    // The third begins with 0xe6, and is a word that needs no merges.
    let extra = [("<|日|>", 3), ("<|\u{4}|>", 4), ("æĹ¥", 1)];
    let t = tokenizer(&vocabulary_of(bytes.collect(), &extra, &[])).unwrap();
    let n = t.n_vocab() as u32;
    let [control, user, word, bos] = [n - 5, n - 4, n - 3, n - 2];
    let text = "naïve 🦊<|日|>日<|\u{4}|>";
    let ids = t.encode(text).unwrap();
    assert_eq!(ids[0], bos);
    assert_eq!(ids[ids.len() - 3..], [control, word, user]);
    assert_eq!(t.decode(&ids).unwrap(), text.replace("<|日|>", ""));
    for (text, byte) in [("a\u{4}b", "0x04"), ("<|日|>\u{4}", "0x04"), ("日月", "0xe6"), ("月", "0xe6")] {
        let message = t.encode(text).unwrap_err().to_string();
        assert_eq!(message, format!("the text has the byte {byte}, for which the model has no token"));
    }
}

#[test]
fn a_long_text_is_encoded_piece_by_piece_to_the_same_tokens() {
    let extra = ["ab", "Ġab", "Ġa", "Ġb", "bĠ"];
    let mut file = writer(&extra, &["a b", "Ġ a", "Ġ b", "Ġ ab"]);
    let plain = tokenizer(&file).unwrap();
    let text = "ab a b  ab\n ab <s>.ab  b ".repeat(3 * PIECE_BYTES / 20);
    let whole: Vec<u32> =
        [plain.bos().unwrap()].into_iter().chain(plain.encode_piece(&text).unwrap()).collect();
    assert!(plain.cuts && pre::pieces(&text, PIECE_BYTES).count() > 2);
    assert_eq!(plain.encode(&text).unwrap(), whole);
    for n in [0, 1, 2, PIECE_BYTES / 2, whole.len(), usize::MAX] {
        assert_eq!(plain.encode_first(&text, n).unwrap(), whole[..n.min(whole.len())]);
    }
    // What is behind them is not looked at.
    let blanks = " ".repeat(pre::MAX_BLANKS + 1);
    let endless = format!("{text}a{blanks}b");
    assert_eq!(plain.encode_first(&endless, 9).unwrap(), whole[..9]);
    assert!(matches!(plain.encode(&endless), Err(TokenizerError::Blanks { .. })));
    // A name that goes on where a piece would end.
    file = vocabulary_of((0..=255).collect(), &[("a b", 4)], &[]);
    let named = tokenizer(&file).unwrap();
    assert!(!named.cuts);
    let ids = named.encode(&"a b".repeat(PIECE_BYTES)).unwrap();
    assert_eq!((ids.len(), ids[1..].iter().all(|&id| id == 256)), (1 + PIECE_BYTES, true));
    for (name, cuts) in [("a\nb", false), ("\nb", false), ("\n", true), ("b\n", true), (" b", true)] {
        file = vocabulary_of((0..=255).collect(), &[(name, 4)], &[]);
        assert_eq!(tokenizer(&file).unwrap().cuts, cuts, "{name:?}");
    }
}

#[test]
fn a_text_that_cannot_be_cut_is_refused_before_it_takes_all_memory() {
    let t = tokenizer(&writer(&[], &[])).unwrap();
    let endless = "日".repeat(pre::MAX_PIECE / 3 + 1);
    let expected = "the text has more than 8388608 bytes without a place to cut it";
    assert_eq!(t.encode(&endless).unwrap_err().to_string(), expected);
    let lines = "日本\n".repeat(pre::MAX_PIECE / 7 + 1);
    assert!(lines.len() > pre::MAX_PIECE);
    assert_eq!(t.encode_first(&lines, 3).unwrap(), t.encode_first("日本", 3).unwrap());
}

#[test]
fn a_name_beyond_reason_is_refused() {
    let name =
        |bytes: usize, kind| vocabulary_of((0..=255).collect(), &[(&"ab".repeat(bytes / 2), kind)], &[]);
    for kind in [3, 4] {
        assert!(tokenizer(&name(MAX_NAME, kind)).is_ok());
        let expected = "token 256 (tokenizer.ggml.tokens) is a name of 1000000 bytes, the limit is 1024";
        assert_eq!(refusal(&name(1_000_000, kind)), expected);
    }
    assert!(tokenizer(&name(1_000_000, 1)).is_ok());
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
    let mut bos = writer(&[], &[]);
    bos.u32("tokenizer.ggml.eot_token_id", 999);
    assert_eq!(refusal(&bos), "tokenizer.ggml.eot_token_id = 999 is outside the vocabulary of 258");
    let mut short = Writer::new();
    short.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "qwen2");
    short.strings("tokenizer.ggml.tokens", &["a", "b"]).i32s("tokenizer.ggml.token_type", &[1]);
    assert_eq!(refusal(&short), "tokenizer.ggml.token_type has 1 entries, 2 are needed");
}
