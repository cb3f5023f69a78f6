//! What must hold of any text: the parser does not panic, what it reads prints to text that it reads the same, and
//! whatever verifies runs to an end, a fault or a finding.

use ptx_builder::interp::{Launch, Memory, Options, Program, launch};
use ptx_builder::{Module, ParamTy, parse, print};

/// Parses; what parses is printed and parsed again.
///
/// # Errors
/// If the second text does not parse, or to another module.
pub fn round_trip(text: &str) -> Result<Option<Module>, String> {
    let Ok(module) = parse(text) else { return Ok(None) };
    let printed = print(&module);
    match parse(&printed) {
        Ok(again) if again == module => Ok(Some(module)),
        Ok(_) => Err(format!("prints to text of another module:\n{printed}")),
        Err(error) => Err(format!("prints to text that does not parse: {error}\n{printed}")),
    }
}

/// Runs every kernel of a module that verifies, on a few threads with small buffers, whatever it does; gives how many
/// were launched.
pub fn run_all(module: Module, seed: u64) -> usize {
    let Ok(verified) = module.verify_foreign() else { return 0 };
    let memory = Memory::new();
    memory.set_limit(Some(1 << 26));
    let Ok(program) = Program::new(&verified) else { return 0 };
    let Ok(loaded) = program.load(&memory) else { return 0 };
    let mut launched = 0;
    for (_, function) in verified.module().kernels() {
        let Some(kernel) = loaded.kernel(&function.name) else { continue };
        let Some(params) =
            function.params.iter().map(|p| argument(&memory, &p.ty, seed)).collect::<Option<Vec<_>>>()
        else {
            continue;
        };
        let what = Launch {
            kernel: &kernel,
            grid: [2, 1, 1],
            block: function.reqntid.unwrap_or([48, 1, 1]),
            cluster: function.reqnctapercluster.unwrap_or([1; 3]),
            dynamic_shared: 1024,
            params: &params,
        };
        let options = Options { fuel: 2_000, seed, threads: Some(1), max_findings: 8, ..Options::default() };
        launched += usize::from(launch(&memory, &what, &options).is_ok());
    }
    launched
}

/// The bytes of an argument: the address of some memory, for a parameter that has room for one.
fn argument(memory: &Memory, ty: &ParamTy, seed: u64) -> Option<Vec<u8>> {
    const BYTES: u64 = 2048;
    let size = ty.bytes() as usize;
    if size > 4096 {
        return None;
    }
    if size != 8 {
        return Some((0..size).map(|i| if i % 4 == 0 { 32 + (seed % 7) as u8 } else { 0 }).collect());
    }
    let address = memory.alloc(BYTES).ok()?;
    let contents: Vec<u8> = (0..BYTES).map(|i| (i.wrapping_mul(seed | 1) >> 3) as u8 & 15).collect();
    memory.write(address, &contents).ok()?;
    Some(address.to_le_bytes().to_vec())
}

/// Changes a text in a few places: words are removed, doubled, exchanged, replaced by others of the text; lines, too.
/// `random` decides.
pub fn mutate(text: &str, random: &mut dyn FnMut() -> u32) -> String {
    let mut words = words(text);
    let edits = 1 + random() % 4;
    for _ in 0..edits {
        if words.is_empty() {
            break;
        }
        let mut pick = |len: usize| random() as usize % len.max(1);
        let (at, other) = (pick(words.len()), pick(words.len()));
        match pick(8) {
            0 => {
                words.remove(at);
            }
            1 => words.insert(at, words[at]),
            2 => words.swap(at, other),
            3 | 4 => words[at] = words[other],
            5 => words[at] = SPICE[pick(SPICE.len())],
            6 => {
                let line = line_of(&words, at);
                words.drain(line);
            }
            _ => {
                let copy = words[line_of(&words, at)].to_vec();
                let to = line_of(&words, other).start;
                words.splice(to..to, copy);
            }
        }
    }
    words.concat()
}

/// Words that a text may lack.
const SPICE: [&str; 20] = [
    "0",
    "-1",
    "0xffffffff",
    "4294967296",
    "0f7FFFFFFF",
    "0d7FF0000000000000",
    "%tid.x",
    "%laneid",
    "%r1",
    "%rd1",
    "%p1",
    "ret",
    "exit",
    "bar.sync",
    ".v4",
    ".f16",
    ".u64",
    ".shared",
    "{",
    "}",
];

/// Words, and what is between them.
fn words(text: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_$%".contains(c);
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end =
            if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    words
}

/// The words of the line that a word is in, its end included.
fn line_of(words: &[&str], at: usize) -> std::ops::Range<usize> {
    let start = words[..at].iter().rposition(|w| *w == "\n").map_or(0, |i| i + 1);
    let end = words[at..].iter().position(|w| *w == "\n").map_or(words.len(), |i| at + i + 1);
    start..end
}
