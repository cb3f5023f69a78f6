//! Any text: no panic, whatever is parsed, verified and run. `ptx-builder/fuzz` asks the same for longer.

use proptest::prelude::*;
use ptx_builder::Module;
use ptx_filetests::{FILES, mutate, round_trip, run_all};

/// The part of a file that is PTX.
fn body(text: &str) -> &str {
    text.find(".version").map_or("", |at| &text[at..])
}

fn mutated(file: usize, numbers: &[u32]) -> String {
    let mut numbers = numbers.iter().copied().cycle();
    mutate(body(FILES[file % FILES.len()].text), &mut || numbers.next().unwrap_or(0))
}

fn parsed(text: &str) -> Result<Option<Module>, TestCaseError> {
    round_trip(text).map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_parse_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parsed(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_bytes_within_a_module_parse_or_do_not(at in any::<usize>(), file in any::<usize>(), bytes in prop::collection::vec(any::<u8>(), 1..8)) {
        let text = body(FILES[file % FILES.len()].text);
        let at = at % text.len().max(1);
        // The corpus is ASCII, so that every position is between characters.
        let text = [&text[..at], &String::from_utf8_lossy(&bytes), &text[(at + bytes.len()).min(text.len())..]].concat();
        parsed(&text)?;
    }

    #[test]
    fn what_verifies_runs_to_an_end(file in any::<usize>(), numbers in prop::collection::vec(any::<u32>(), 40), seed in 0u64..100) {
        let text = mutated(file, &numbers);
        if let Some(module) = parsed(&text)? {
            run_all(module, seed);
        }
    }
}

#[test]
fn mutations_reach_the_interpreter() {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let launched: usize = (0..400)
        .filter_map(|i| round_trip(&mutate(body(FILES[i % FILES.len()].text), &mut random)).ok().flatten())
        .map(|module| run_all(module, 3))
        .sum();
    assert!(launched > 60, "only {launched} kernels ran");
}
