//! Small `.ptx` files with inputs and expected outputs, and what runs them.
//!
//! A file begins with a comment that says what to launch, with which inputs, and what comes out: `README.md` beside
//! this crate is the reference of that format. The same file is read by the parser, checked by the verifier, run by
//! the interpreter with all its sanitizers and, in the tests that have one, by a GPU.
//!
//! ```
//! use ptx_filetests::{Header, files};
//!
//! let file = files()?.into_iter().find(|f| f.name == "nvcc/vector_add").ok_or("no such file")?;
//! let Header::Runs(runs) = Header::parse(&file.text)? else { return Err("is refused".into()) };
//! assert_eq!(runs[0].kernel, "vector_add");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//! - [`Header`]: what a file asks for, from its text.
//! - [`Data`], [`Elem`]: arrays of any element type.
//! - [`evaluate`]: the values of an expression; its generators and references are functions in Rust.
//! - [`Runner`]: loads modules, holds memory, launches; [`Interpreter`] is one.
//! - [`check`]: runs a file on a runner and compares.

mod check;
mod data;
mod expr;
mod format;
mod interpreter;
mod reference;
mod runner;

use std::io;
use std::path::Path;

pub use check::{Output, check, check_file};
pub use data::{Data, Elem};
pub use expr::Expr;
pub use format::{FormatError, Header, Item, ItemKind, Run, Tolerance};
pub use interpreter::Interpreter;
pub use reference::{Names, evaluate};
pub use runner::{Found, Launched, Request, RunError, Runner};

/// A file of the corpus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its directory and its name without the ending.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// All files, by name.
///
/// # Errors
/// If a directory or a file cannot be read.
pub fn files() -> io::Result<Vec<File>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for origin in ["nvcc", "llvm", "hand"] {
        for entry in root.join(origin).read_dir()? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "ptx") {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                files.push(File { name: format!("{origin}/{stem}"), text: std::fs::read_to_string(&path)? });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
