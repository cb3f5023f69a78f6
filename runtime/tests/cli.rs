//! The program from outside: exit codes, messages, streams.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use runtime::gguf::{Gguf, Writer};
use tempfile::TempDir;

fn warpsmith(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpsmith"));
    // No driver, whatever the machine has.
    command.args(arguments).env("WARPSMITH_CUDA_LIBRARY", "/no/such/libcuda.so").env_remove("WARPSMITH_LOG");
    command
}

fn run(arguments: &[&str]) -> Output {
    warpsmith(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The text of a command that must succeed.
#[track_caller]
fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// The error line of a command that must fail, without a panic and with nothing on stdout.
#[track_caller]
fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    let message = stderr(&output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {message}", output.status);
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(stdout(&output), "");
    let line = message.lines().find(|line| line.starts_with("error: "));
    line.unwrap_or_else(|| panic!("no error line in {message:?}")).to_owned()
}

fn asset() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-q4_k_m.gguf")
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn text_goes_to_stdout_and_the_rest_to_stderr() {
    let output = run(&["generate", "Q: 128 + 45 = A:", "-n", "20"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "Q: 128 + 45 = A: 173\n\n");
    let report = stderr(&output);
    for part in [
        "model: tiny",
        "backend: cpu (no CUDA driver is installed)",
        "engine: CPU",
        "prompt: 14 tokens",
        "tok/s",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(report.contains("stopped by end of text"), "{report}");
}

#[test]
fn the_type_of_the_cache_is_chosen_and_told() {
    for (kv, told) in [("f32", "F32"), ("f16", "F16"), ("bf16", "BF16"), ("fp8", "F8E4M3")] {
        let output = run(&["generate", "Q: 128 + 45 = A:", "-n", "20", "--kv", kv]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).starts_with("Q: 128 + 45 = A: "), "{}", stdout(&output));
        assert!(stderr(&output).contains(&format!("KV cache in {told}\n")), "{}", stderr(&output));
    }
}

#[test]
fn generation_without_arguments_tells_a_tale() {
    let tale = text(&["generate"]);
    assert!(tale.starts_with("Once upon a time") && tale.split_whitespace().count() > 40, "{tale}");
    let same = text(&["generate", "-m", asset().to_str().unwrap(), "--backend", "cpu", "--threads", "1"]);
    assert_eq!(tale, same);
}

#[test]
fn a_seed_is_a_text() {
    let tale = |seed: &str| {
        let sampling = ["--temp", "1", "--top-k", "40", "--top-p", "0.95", "--seed", seed];
        text(&[&["generate", "Once upon a time", "-n", "40", "--no-echo"][..], &sampling].concat())
    };
    assert_eq!(tale("1"), tale("1"));
    assert_ne!(tale("1"), tale("2"));
    assert!(!tale("1").starts_with("Once"));
}

#[test]
fn files_that_are_no_models_are_refused_by_name() {
    let files = Files::new();
    let whole = fs::read(asset()).unwrap();
    let missing = refusal(&["generate", "-m", "/no/such/model.gguf"]);
    assert!(missing.starts_with("error: cannot read /no/such/model.gguf: "), "{missing}");
    let folder = refusal(&["info", files.0.path().to_str().unwrap()]);
    assert!(folder.starts_with("error: cannot read "), "{folder}");
    let other = files.write("text.gguf", b"Once upon a time");
    assert!(refusal(&["info", &other]).contains("not a GGUF file"));
    assert!(refusal(&["info", &files.write("empty.gguf", b"")]).contains("magic at byte 0 needs 4 bytes"));
    #[cfg(unix)]
    {
        let pipe = files.0.path().join("pipe").to_str().unwrap().to_owned();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Someone who opens the other end, so that a reader does not wait for ever.
        let writer = pipe.clone();
        std::thread::spawn(move || fs::OpenOptions::new().write(true).open(writer));
        for path in [pipe.as_str(), "/dev/zero", "/dev/null"] {
            let message = refusal(&["info", path]);
            assert_eq!(message, format!("error: cannot read {path}: it is not a regular file"));
        }
    }
    for length in [100, 30_000, whole.len() / 2] {
        let cut = files.write("cut.gguf", &whole[..length]);
        for arguments in [&["generate", "-m", &cut][..], &["info", &cut], &["bench", "-m", &cut]] {
            let message = refusal(arguments);
            assert!(message.contains(&cut), "{message}");
            assert!(message.contains("left in the file") || message.contains("bytes of data"), "{message}");
        }
    }
}

/// A copy of the embedded model with one occurrence of `from` replaced.
fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = fs::read(asset()).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn models_that_cannot_be_run_are_refused_by_name() {
    let files = Files::new();
    let mut writer = Writer::new();
    writer.string("general.architecture", "mamba");
    let mamba = files.write("mamba.gguf", &writer.finish().unwrap());
    assert_eq!(
        refusal(&["generate", "-m", &mamba]),
        "error: architecture \"mamba\" is not supported (llama and qwen2 are)"
    );
    assert!(text(&["info", &mamba]).contains("this file cannot be run: architecture \"mamba\""));

    // The type follows the name, the number of dimensions and the two dimensions.
    let name = b"blk.3.ffn_up.weight";
    let bytes = fs::read(asset()).unwrap();
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let described = &bytes[at..at + name.len() + 4 + 16 + 4];
    let mut iq4 = described.to_vec();
    iq4[name.len() + 20] = 23;
    let unreadable = files.write("iq4.gguf", &patched(described, &iq4));
    let expected = "error: tensor blk.3.ffn_up.weight: tensor type IQ4_XS (23) is not supported";
    assert_eq!(refusal(&["generate", "-m", &unreadable]), expected);
    assert!(text(&["info", &unreadable]).contains("of unknown size: not supported"));

    let renamed = files.write("renamed.gguf", &patched(name, b"blk.3.ffn_zp.weight"));
    let message = refusal(&["generate", "-m", &renamed]);
    assert_eq!(message, "error: tensor blk.3.ffn_up.weight [768, 256] is missing");
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let files = Files::new();
    let whole = Gguf::open(asset()).unwrap();
    // The first half of a block of either type, or the least half of a number.
    for (name, at) in [("blk.2.ffn_norm.weight", 2), ("blk.3.attn_q.weight", 0), ("token_embd.weight", 208)] {
        let tensor = whole.tensor_bytes(name).unwrap();
        let from = tensor.as_ptr().addr() - whole.head().as_ptr().addr() + at;
        let mut bytes = fs::read(asset()).unwrap();
        bytes[from..from + 2].copy_from_slice(&[0xc0, 0x7f]);
        let file = files.write("broken.gguf", &bytes);
        for arguments in [&["generate", "-m", &file, "-n", "4"][..], &["evaluate", "-m", &file]] {
            let output = run(arguments);
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{message}");
            assert!(message.contains(&format!("\ntensor {name} holds values")), "{message}");
        }
    }
}

#[test]
fn prompts_and_counts_that_do_not_fit_are_refused_with_both_numbers() {
    assert_eq!(
        refusal(&["generate", "Once upon a time", "-n", "0"]),
        "error: the number of tokens to generate (n) must be at least 1"
    );
    let long = "fox ".repeat(1200);
    let message = refusal(&["generate", &long]);
    assert!(message.ends_with("tokens, the context holds 1024"), "{message}");
    let message = refusal(&["generate", "Once upon a time", "--context", "16", "-n", "13"]);
    assert_eq!(
        message,
        "error: 5 tokens of prompt and 13 to generate need 17 positions, the context holds 16"
    );
    let message = refusal(&["generate", "--context", "5000"]);
    assert_eq!(message, "error: the context (max_seq) is 5000, the limit is 1024");
    assert_eq!(refusal(&["generate", "--context", "0"]), "error: the context (max_seq) must be at least 1");
    assert!(
        text(&["generate", "Once upon a time", "--context", "16", "-n", "12"])
            .starts_with("Once upon a time")
    );
}

#[test]
fn a_prompt_that_a_longer_context_would_hold_is_told_so() {
    let told = |arguments: &[&str]| stderr(&run(arguments));
    let hint = "the model has 1024 positions, of which --context N takes N";
    assert!(told(&["generate", "--context", "16", "-n", "13"]).contains(hint));
    assert!(!told(&["generate", "-n", "2000"]).contains(hint));
}

/// A command with at most 4 GB of address space that must fail.
#[cfg(target_os = "linux")]
#[track_caller]
fn refusal_in_4_gb(arguments: &[&str]) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_warpsmith")]);
    let output = command.args(arguments).args(["--backend", "cpu"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    stderr(&output).lines().last().unwrap().to_owned()
}

#[test]
#[cfg(target_os = "linux")]
fn caches_beyond_memory_are_refused_before_anything_else_is_made() {
    let files = Files::new();
    for batch in ["100000000", "4294967295"] {
        let message = refusal_in_4_gb(&["bench", "-n", "1", "-p", "1", "--repeat", "1", "--batch", batch]);
        assert!(message.contains("for the KV cache"), "{message}");
    }
    let key = [b"llama.context_length".as_slice(), &4u32.to_le_bytes()].concat();
    let endless = files.write("endless.gguf", &patched(&key, &[&key[..], &[0xff; 4]].concat()));
    let message = refusal_in_4_gb(&["generate", "-m", &endless, "--context", "4294967295", "-n", "1"]);
    assert!(message.contains("for the KV cache"), "{message}");
}

#[test]
fn options_out_of_range_are_refused() {
    assert!(refusal(&["generate", "--temp", "-1"]).contains("temperature is -1"));
    assert!(refusal(&["generate", "--temp", "NaN"]).contains("temperature is NaN"));
    assert!(refusal(&["generate", "--top-p", "0"]).contains("top_p is 0"));
    assert!(refusal(&["generate", "--top-p", "-0.5"]).contains("top_p is -0.5"));
    assert!(refusal(&["generate", "--min-p", "2"]).contains("min_p is 2"));
    assert!(refusal(&["generate", "--repeat-penalty", "-1"]).contains("repetition_penalty is -1"));
    assert!(refusal(&["generate", "--threads", "0"]).contains("threads must be at least 1"));
    assert!(refusal(&["generate", "--threads", "1025"]).contains("threads is 1025, the limit is 1024"));
    assert!(refusal(&["bench", "--repeat", "0"]).contains("repeat must be at least 1"));
    assert!(refusal(&["bench", "-p", "0"]).contains("the prompt must be at least 1"));
}

#[test]
fn threads_are_those_of_the_machine_whatever_the_environment_says() {
    let mut command = warpsmith(&["generate", "-n", "1"]);
    let output = command.env("RAYON_NUM_THREADS", "5000").env("RAYON_RS_NUM_CPUS", "5000").output().unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains(&format!("engine: CPU, {cores} threads,")), "{told}");
}

#[test]
#[cfg(target_os = "linux")]
fn weights_are_made_by_threads_that_the_system_can_start() {
    let files = Files::new();
    let file = files.0.path().join("tiny.gguf").to_str().unwrap().to_owned();
    // So many threads would not fit.
    let limited = "ulimit -v 4000000; RAYON_NUM_THREADS=5000 exec \"$0\" \"$@\"";
    for arguments in
        [&["synthesize", "tiny", &file][..], &["bench", "--synthetic", "tiny", "-n", "1", "-p", "1"]]
    {
        let mut command = Command::new("sh");
        command.args(["-c", limited, env!("CARGO_BIN_EXE_warpsmith")]).args(arguments);
        let output = command.env("WARPSMITH_CUDA_LIBRARY", "/no/such/libcuda.so").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn bad_flags_are_usage_errors() {
    for arguments in [
        &["generate", "--frobnicate"][..],
        &["generate", "-n", "many"],
        &["generate", "--backend", "tpu"],
        &["generate", "--kv", "q4_0"],
        &["bench", "--synthetic", "gpt5"],
        &["bench", "--synthetic", "tiny", "--quant", "q3"],
        &["bench", "--synthetic", "tiny", "-m", "file.gguf"],
        &["bench", "--svg", "roofline.svg"],
        &["bench", "--other-gpu"],
        &["conquer"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains("error: "), "{arguments:?}");
    }
    assert!(stderr(&run(&["generate", "--backend", "tpu"])).contains("auto, cpu or cuda"));
}

#[test]
fn cuda_without_a_driver_is_an_error_that_says_what_was_tried() {
    for command in ["generate", "bench"] {
        let message = refusal(&[command, "--backend", "cuda"]);
        assert!(
            message.starts_with("error: the cuda backend was asked for, but CUDA is not available"),
            "{message}"
        );
        assert!(message.contains("/no/such/libcuda.so"), "{message}");
    }
}

#[test]
fn a_model_without_a_tokenizer_can_be_measured_but_not_prompted() {
    let model =
        runtime::synthetic::synthesize(runtime::synthetic::Preset::Tiny, runtime::synthetic::Quant::Q8_0, 1);
    let mut writer = Writer::new();
    // The same file, byte for byte, from its parts.
    let model = model.unwrap();
    for (key, value) in model.gguf().metadata().iter() {
        use runtime::gguf::Value;
        match value {
            Value::String(v) => writer.string(key, v),
            Value::U32(v) => writer.u32(key, *v),
            Value::F32(v) => writer.f32(key, *v),
            other => panic!("{key}: {other:?}"),
        };
    }
    for tensor in model.gguf().tensors() {
        let bytes = model.tensor_bytes(&tensor.name).unwrap().to_vec();
        writer.tensor(&tensor.name, tensor.ty.unwrap(), &tensor.dims, bytes).unwrap();
    }
    let files = Files::new();
    let file = files.write("tiny.gguf", &writer.finish().unwrap());
    assert!(refusal(&["generate", "-m", &file]).contains("the model has no tokenizer"));
    assert!(text(&["info", &file]).contains("\nit takes no text: the model has no tokenizer"));
    assert!(!text(&["info", asset().to_str().unwrap()]).contains("it takes no text"));
    let table = text(&["bench", "-m", &file, "-n", "4", "-p", "4", "--repeat", "1"]);
    assert!(table.starts_with("synthetic tiny q8_0: 1.4 M parameters"), "{table}");
}

#[test]
fn bench_writes_json() {
    let json = text(&["bench", "--synthetic", "tiny-qwen2", "-n", "8", "-p", "8", "--repeat", "2", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["model"], "synthetic tiny-qwen2 q4_k_m");
    let row = &report["rows"][0];
    assert_eq!(
        (row["mode"].as_str(), row["all_decode_tok_per_s"].as_array().map(Vec::len)),
        (Some("cpu"), Some(2))
    );
    assert!(row["decode_tok_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_synthetic_file_takes_a_text_and_says_where_the_time_goes() {
    let files = Files::new();
    let file = files.0.path().join("tiny.gguf").to_str().unwrap().to_owned();
    text(&["synthesize", "tiny-qwen2", &file]);
    assert!(refusal(&["synthesize", "tiny", &file]).contains("tiny.gguf"), "it is overwritten");
    let output = run(&["generate", "A fox", "-m", &file, "-n", "2", "--timings", "--backend", "cpu"]);
    let told = stderr(&output);
    assert!(output.status.success(), "{told}");
    let took = |phase: &str| -> f64 {
        let line = told.lines().find(|line| line.starts_with(phase)).unwrap_or_else(|| panic!("{told}"));
        line[16..].split_whitespace().nth(2).and_then(|took| took.parse().ok()).unwrap()
    };
    assert!(took("first token") >= took("tokenizer") + took("model file"), "{told}");
    assert!(!stderr(&run(&["generate", "A fox", "-m", &file, "-n", "2"])).contains("tokenizer"));
}

#[test]
#[cfg(unix)]
fn a_file_that_cannot_be_written_whole_is_removed() {
    let files = Files::new();
    let file = files.0.path().join("tiny.gguf");
    let mut command = Command::new("sh");
    // Files of at most a few kB, and an error instead of a signal for more.
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_warpsmith")]);
    let output = command.args(["synthesize", "tiny", file.to_str().unwrap()]).output().unwrap();
    let message = stderr(&output);
    assert!(message.starts_with("error: cannot write ") && message.contains("tiny.gguf"), "{message}");
    assert!(!file.exists());
}

#[test]
fn evaluate_tells_the_loss_and_what_small_activations_cost() {
    let files = Files::new();
    let tale = files.write("tale.txt", b"Once upon a time, there was a small fox named Pip.");
    let told = text(&["evaluate", &tale]);
    let number = |text: &str, name: &str| -> f64 {
        let value = text.split(name).nth(1).and_then(|rest| rest.split([' ', ',']).next());
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name:?} in {text}"))
    };
    let kl = number(&told, "KL ");
    assert!(number(&told, "loss ") < 4.0 && kl > 0.0 && kl < 1e-3, "{told}");
    let random = text(&["evaluate", "-n", "12"]);
    assert!(random.contains(": 12 tokens") && number(&random, "loss ") > 4.0, "{random}");
    let exact = text(&["evaluate", &tale, "--activations", "f32"]);
    assert!(exact.contains("KL 0.00e0 (most 0.00e0), rms 0.00 %, same choice 100.0 %"), "{exact}");
    let empty = files.write("empty.txt", b"");
    assert!(refusal(&["evaluate", &empty]).contains("a loss needs at least 2 tokens"));
    assert!(refusal(&["evaluate", "-n", "1"]).contains("a loss needs at least 2 tokens"));
    assert!(refusal(&["evaluate", "/no/such/text"]).contains("/no/such/text"));
    let latin = refusal(&["evaluate", &files.write("latin.txt", b"caf\xe9s")]);
    assert!(latin.contains("latin.txt: invalid utf-8"), "{latin}");
}

#[test]
fn a_text_without_end_is_refused() {
    let files = Files::new();
    let path = files.write("endless", b"");
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 33).unwrap();
    for arguments in [["evaluate", &path], ["bench", &format!("--compare={path}")]] {
        let message = refusal(&arguments);
        assert!(message.contains("endless: it has more than 268435456 bytes"), "{message}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn text_that_stdout_has_no_room_for_is_an_error() {
    for arguments in [&["--help"][..], &["--version"], &["bench", "--help"], &["doctor"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = warpsmith(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).starts_with("error: cannot write to stdout: "), "{}", stderr(&output));
    }
}

#[test]
fn bench_compares_with_what_it_wrote_before() {
    let files = Files::new();
    let bench = ["bench", "--backend", "cpu", "-n", "4", "-p", "4", "--repeat", "1"];
    let tiny = ["--synthetic", "tiny", "--quant", "q8_0"];
    let json = text(&[&bench[..], &tiny, &["--json"]].concat());
    let before = files.write("before.json", json.as_bytes());
    let table = text(&[&bench[..], &tiny, &["--compare", &before]].concat());
    assert!(table.contains("cpu prompt\n") && table.contains("cpu decode\n"), "{table}");
    let json = text(&[&bench[..], &tiny, &["--compare", &before, "--json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["compared"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (report["gpu"].is_null(), &report["compared"][1]["after"]),
        (true, &report["rows"][0]["decode_tok_per_s"])
    );

    let other = refusal(&[&bench[..], &["--synthetic", "tiny-qwen2", "--compare", &before]].concat());
    assert!(other.contains("it measured another model: \"synthetic tiny q8_0\""), "{other}");
    let damaged = files.write("damaged.json", b"{");
    let message = refusal(&[&bench[..], &tiny, &["--compare", &damaged]].concat());
    assert!(message.contains("damaged.json: it is not JSON"), "{message}");
    // Before anything is opened.
    let empty = files.write("empty.json", b"[]");
    let message = refusal(&["bench", "-m", "/no/such/model.gguf", "--compare", &empty]);
    assert!(message.ends_with("it is not what bench --json writes: it has no `model`"), "{message}");
    let missing = refusal(&[&bench[..], &tiny, &["--compare", "/no/such/file.json"]].concat());
    assert!(missing.contains("cannot read /no/such/file.json"), "{missing}");
}

#[test]
fn a_profile_needs_a_gpu_and_a_roof_above_zero() {
    let message = refusal(&["bench", "--backend", "cpu", "--synthetic", "tiny", "--profile"]);
    assert!(message.contains("--profile needs the cuda backend"), "{message}");
    let message = refusal(&["bench", "--synthetic", "tiny", "--profile", "--roof", "0"]);
    assert!(message.contains("--roof is 0, must be a speed above 0"), "{message}");
}

#[test]
fn info_shows_metadata_types_and_sizes() {
    let info = text(&["info", asset().to_str().unwrap()]);
    for part in ["GGUF version 3", "\"llama-bpe\"", "[string; 2048]", "Q4_K", "Q6_K", "5246208 parameters"] {
        assert!(info.contains(part), "{part}: {info}");
    }
    let files = Files::new();
    let mut writer = Writer::new();
    writer.string("evil\x1b[2J", "\x1b[31m\nred");
    let info = text(&["info", &files.write("evil.gguf", &writer.finish().unwrap())]);
    assert!(!info.contains('\x1b') && info.contains("\\u{1b}[31m\\nred"), "{info:?}");
}

#[test]
fn doctor_is_well_without_a_gpu() {
    let report = text(&["doctor"]);
    assert!(report.contains("no CUDA driver") && report.contains("=>  auto will use the cpu"), "{report}");
}

#[test]
fn logging_is_off_stdout_and_its_filter_is_checked() {
    let output = warpsmith(&["doctor"]).env("WARPSMITH_LOG", "runtime=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: WARPSMITH_LOG is \"runtime=loud\", must be a log filter"));
    let output = warpsmith(&["doctor"]).env("WARPSMITH_LOG", "trace").output().unwrap();
    assert!(output.status.success() && stdout(&output).contains("=>"));
    let output = warpsmith(&["generate", "-n", "1"]).env("WARPSMITH_LOG", "trace").output().unwrap();
    let told = stderr(&output);
    assert!(told.contains("TRACE") || told.contains("DEBUG"), "{told}");
    assert!(!told.contains('\x1b'), "{told:?}");
}

#[test]
#[cfg(unix)]
fn a_reader_that_leaves_is_no_error() {
    let mut child =
        warpsmith(&["generate", "-n", "200"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    // The pipe is closed now; the program notices at its next word.
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert!(!stderr(&output).contains("error"), "{}", stderr(&output));
}
