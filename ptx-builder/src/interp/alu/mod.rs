//! Arithmetic: what an instruction computes from registers alone.

mod compare;
mod convert;
mod float;
mod int;
mod lanes;
mod mov;

use super::regs::{AluFn, File};
use crate::inst::Kind;

/// The function of an instruction; `None` if it is not arithmetic. `files` says where each operand lives.
pub(super) fn lower(kind: &Kind, files: &[File]) -> Option<AluFn> {
    match kind {
        Kind::Regular(regular) => int::lower(regular).or_else(|| float::lower(regular)),
        Kind::Mov(_) => mov::mov(files),
        Kind::Pack { ty, parts } => mov::lower_pack(*ty, *parts),
        Kind::Unpack { ty, parts } => mov::lower_unpack(*ty, *parts),
        Kind::Setp(setp) => compare::lower(setp),
        Kind::Cvt(cvt) => convert::lower(cvt, files),
        _ => None,
    }
}
