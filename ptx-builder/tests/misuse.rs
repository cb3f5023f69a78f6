//! Misuse of types that must not compile, with the message that the author of a kernel sees.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library that this test is linked with: cargo puts it beside the test, the newest of those with its name.
fn library() -> PathBuf {
    let test = env::current_exe().unwrap();
    let entries = fs::read_dir(test.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libptx_builder-") && name.ends_with(".rlib")
    };
    let libraries = entries.filter(is_library);
    libraries
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .expect("a library beside the test")
}

/// What the compiler says of a program, or `None` if it has nothing against it.
fn refusal(program: &Path, library: &Path) -> Option<String> {
    let dependencies = library.parent().unwrap();
    let mut with_library = OsString::from("ptx_builder=");
    with_library.push(library);
    let compiled = Command::new("rustc")
        // From where the library was compiled, so that its sources are found.
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--color=never"])
        .arg("--extern")
        .arg(with_library)
        .arg("-L")
        .arg(dependencies)
        .arg("--out-dir")
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .arg(program)
        .output()
        .unwrap();
    (!compiled.status.success()).then(|| without_places(&String::from_utf8(compiled.stderr).unwrap()))
}

/// The message without what changes although it says the same: where in the library something is, and the summary.
fn without_places(message: &str) -> String {
    let mut text = String::new();
    let mut in_library = false;
    for line in message.lines().take_while(|line| !line.starts_with("error: aborting due to")) {
        let is_place = |(arrow, _): &(&str, &str)| matches!(arrow.trim_start(), "-->" | ":::");
        if let Some((arrow, place)) = line.trim_start().split_once(' ').filter(is_place) {
            in_library = !place.contains("tests/ui/");
            let kept = match place.find("src/") {
                Some(at) if in_library => place[at..].split(':').next().unwrap_or_default(),
                _ => place.rsplit('/').next().unwrap_or_default(),
            };
            text.push_str(&format!(" {arrow} {kept}\n"));
            continue;
        }
        // Margins are as wide as the largest number of a line.
        let is_numbered =
            |(number, _): &(&str, &str)| number.trim().bytes().all(|byte| byte.is_ascii_digit());
        match line.split_once('|').filter(is_numbered) {
            Some((_, source)) if in_library => text.push_str(&format!("   |{source}\n")),
            Some((number, source)) => text.push_str(&format!("{:>2} |{source}\n", number.trim())),
            None => text.push_str(&format!("{}\n", line.trim_start())),
        }
    }
    text
}

#[test]
fn misuse_does_not_compile() {
    let library = library();
    let mut programs: Vec<PathBuf> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ui"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    programs.sort();
    assert!(programs.len() >= 8, "{programs:?}");
    for program in programs {
        let name = program.file_stem().unwrap().to_str().unwrap();
        let program = Path::new("ptx-builder/tests/ui").join(program.file_name().unwrap());
        let refusal = refusal(&program, &library);
        let refusal = refusal.unwrap_or_else(|| panic!("{} compiles", program.display()));
        insta::assert_snapshot!(name, refusal);
    }
}
