//! Typed PTX IR in pure Rust: build, print, parse and verify kernels for NVIDIA GPUs.
//!
//! Nothing here needs a GPU, a driver or a toolkit: a kernel is a value that can be looked at, tested and
//! printed. What the driver compiles is the text of a [`VerifiedModule`].
//!
//! ```
//! use ptx_builder::{F32, Module, Target, U32};
//!
//! let mut module = Module::new(Target::SM_80);
//! module.kernel("scale", |k| {
//!     k.reqntid(256, 1, 1);
//!     let x = k.param_ptr("x", 4);
//!     let n = k.param::<U32>("n");
//!     let factor = k.param::<F32>("factor");
//!
//!     let i = k.global_tid_x();
//!     let outside = k.ge(i, n);
//!     k.ret_if(outside);
//!     let at = k.ptr_index(x, i, 4);
//!     let old = k.ld_global::<F32>(at);
//!     let new = k.mul(old, factor);
//!     k.st_global::<F32>(at, new);
//! });
//! let module = module.verify()?;
//! let text = module.ptx();
//! assert!(text.starts_with(".version 7.0\n.target sm_80\n"));
//! assert_eq!(&ptx_builder::parse(&text)?, module.module());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//! - [`Module`] > [`Function`] > [`Block`] > [`Inst`]: the IR is plain data with public fields. Registers,
//!   blocks, parameters and arrays are small ids whose `Display` is their name in the text.
//! - [`Op`]: the instruction set. One table has a row for each regular instruction; a new one is one line there.
//!   The irregular families (loads, conversions, shuffles, matrices, ...) are [`Kind`]'s other variants.
//!   [`Inst::defs`], [`Inst::uses`], [`Kind::signature`] and [`Kind::effects`] say the rest, for every one.
//! - [`KernelBuilder`]: typed handles ([`Reg`], [`Var`], [`Pred`]) and control flow by closures. Adding a
//!   float to an address does not compile. Its methods do not fail.
//! - [`Module::verify`]: everything else that can be wrong, all at once, each finding with entity and instruction.
//!   A module that verifies never makes the printer, the parser or the assembler fail.
//! - [`print()`], [`parse()`]: deterministic text, and back to an equal module. The parser also reads what nvcc and
//!   LLVM print for CUDA C++; [`Module::verify_foreign`] is for such modules.
//! - [`Global`], [`Call`], [`Prototype`]: variables with initial values, device functions, calls direct and through
//!   a prototype. The builder makes kernels only; these come from other compilers' text, except for the call that is
//!   [`KernelBuilder::graph_set_conditional`].
//! - [`Target`], [`PtxVersion`], [`Requires`]: what exists where. The printed `.version` is the lowest that the
//!   target and the instructions need.
//! - [`testing`]: modules with every form of every instruction, and random valid modules.
//!
//! Values are assigned once; what changes in a loop is a [`Var`]. Registers are declared by class and
//! named by prefix, one to one: `%p .pred`, `%rs .b16`, `%r .b32`, `%rd .b64`, `%f .f32`, `%fd .f64`.
//! Floats are added and multiplied with `.rn`, which keeps the assembler from contracting them, so that results
//! do not depend on its version.

mod build;
mod ids;
mod inst;
pub mod interp;
mod module;
mod ops;
mod parse;
mod print;
mod symbols;
mod target;
pub mod testing;
mod ty;
mod verify;

pub use build::*;
pub use ids::{
    ArrayId, BlockId, CallParamId, FuncId, GlobalId, InstId, ParamId, PrototypeId, RegClass, RegId, TargetsId,
};
pub use inst::*;
pub use module::{
    Array, Block, DYNAMIC_SHARED, Function, FunctionKind, MAX_REGISTERS, Module, Param, ParamTy,
};
pub use ops::{Effects, Mod, Mods, Op, OpInfo, RegularInfo, Rounding, Spec};
pub use parse::{ParseError, parse};
pub use print::print;
pub use symbols::{Global, Linkage, Prototype, Relocation, SymbolId};
pub use target::{PtxVersion, Requires, Target, UnknownTarget};
pub use testing::all_ops_module;
pub use ty::{Ty, TyKind};
pub use verify::{Finding, Rule, VerifiedModule, VerifyErrors};
