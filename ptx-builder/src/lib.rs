//! Typed PTX IR in pure Rust: build, print, parse and verify.

mod build;
mod ids;
mod inst;
mod module;
mod ops;
mod print;
mod target;
mod ty;
mod verify;

pub use build::*;
pub use ids::{ArrayId, BlockId, InstId, ParamId, RegClass, RegId};
pub use inst::*;
pub use module::{Array, Block, DYNAMIC_SHARED, Function, Module, Param, ParamTy};
pub use ops::{Effects, Mod, Mods, Op, OpInfo, RegularInfo, Rounding, Spec};
pub use print::print;
pub use target::{PtxVersion, Requires, Target, UnknownTarget};
pub use ty::{Ty, TyKind};
pub use verify::{Finding, Rule, VerifiedModule, VerifyErrors};
