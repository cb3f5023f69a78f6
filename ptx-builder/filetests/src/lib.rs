//! Small `.ptx` files with inputs and expected outputs, and what runs them.
//!
//! A file begins with a comment that says what to launch, with which inputs, and what comes out: `README.md` beside
//! this crate is the reference of that format. The same file is read by the parser, checked by the verifier, run by
//! the interpreter with all its sanitizers and, in the tests that have one, by a GPU.
//!
//! ```
//! use ptx_filetests::{FILES, Header};
//!
//! let file = FILES.iter().find(|f| f.name == "nvcc/vector_add").ok_or("no such file")?;
//! let Header::Runs(runs) = Header::parse(file.text)? else { return Err("is refused".into()) };
//! assert_eq!(runs[0].kernel, "vector_add");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//! - [`FILES`]: all of them.
//! - [`Header`]: what a file asks for, from its text.
//! - [`Data`], [`Elem`]: arrays of any element type.
//! - [`evaluate`]: the values of an expression; its generators and references are functions in Rust.
//! - [`Runner`]: loads modules, holds memory, launches; [`Interpreter`] is one.
//! - [`check`]: runs a file on a runner and compares.
//! - [`round_trip`], [`run_all`], [`mutate`]: what must hold of any text, for property tests and fuzzing.

mod check;
mod data;
mod expr;
mod format;
mod interpreter;
mod reference;
mod robust;
mod runner;

pub use check::{Output, check, check_file};
pub use data::{Data, Elem};
pub use expr::Expr;
pub use format::{FormatError, Header, Item, ItemKind, Run, Tolerance};
pub use interpreter::Interpreter;
pub use reference::{Names, evaluate};
pub use robust::{mutate, round_trip, run_all};
pub use runner::{Found, Launched, Request, RunError, Runner};

/// A file of the corpus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct File {
    /// Its directory and its name without the ending.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// All files, by name.
pub const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));
