//! Any bytes: the parser does not panic, and what it reads prints to text that it reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ptx_filetests::round_trip;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Err(message) = round_trip(&text) {
        panic!("{message}");
    }
});
