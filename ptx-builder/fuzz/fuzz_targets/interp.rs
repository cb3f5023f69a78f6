//! Files of the corpus, changed as the bytes say: what still verifies runs to an end, a fault or a finding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ptx_filetests::{FILES, mutate, round_trip, run_all};

fuzz_target!(|bytes: &[u8]| {
    let mut words = bytes.chunks(4).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)));
    let mut next = || words.next().unwrap_or(0);
    let file = FILES[next() as usize % FILES.len()].text;
    let text = mutate(&file[file.find(".version").unwrap_or(0)..], &mut next);
    match round_trip(&text) {
        Ok(Some(module)) => {
            run_all(module, u64::from(next()));
        }
        Ok(None) => {}
        Err(message) => panic!("{message}"),
    }
});
