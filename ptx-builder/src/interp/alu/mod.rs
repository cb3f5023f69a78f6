//! Arithmetic: what an instruction computes from registers alone.

mod atomic;
mod compare;
mod convert;
mod exact;
mod float;
mod general;
mod halves;
mod int;
mod lanes;
mod mma;
mod more;
mod mov;
mod pairs;
mod soft;
#[cfg(test)]
mod tests;
mod wmma;

pub(super) use atomic::{atomic, least, most};
pub(super) use mma::{Sums, fragment_a, products};
pub(super) use wmma::multiply_add;

use super::regs::{AluFn, File, MAX_OPERANDS};
use crate::inst::Kind;

/// The last slot of the operands: what [`extra`] says.
pub(super) const EXTRA: usize = MAX_OPERANDS - 1;

/// Where the operands of an instruction live.
pub(super) struct Place<'a> {
    /// The file of each operand.
    pub(super) files: &'a [File],
    /// The first result is a register of 16 bits.
    pub(super) half: bool,
}

/// A number that an instruction's function finds in the slot [`EXTRA`] of its operands.
pub(super) fn extra(kind: &Kind, place: &Place<'_>) -> u32 {
    match kind {
        Kind::Regular(regular) => exact::encode(regular.mods) | halves::encode(regular.op),
        Kind::Setp(setp) => compare::encode(setp),
        Kind::Cvt(cvt) => general::encode(cvt, place),
        Kind::Mma(shape) => mma::index(*shape),
        Kind::Set(set) => more::encode_set(set),
        _ => 0,
    }
}

/// The function of an instruction; `None` if it is not arithmetic. Its operands need [`extra`] in their last slot.
pub(super) fn lower(kind: &Kind, place: &Place<'_>) -> Option<AluFn> {
    match kind {
        Kind::Regular(regular) => int::lower(regular)
            .or_else(|| float::lower(regular))
            .or_else(|| halves::lower(regular))
            .or_else(|| exact::lower(regular))
            .or_else(|| pairs::lower(regular.op))
            .or_else(|| more::lower(regular.op, regular.ty)),
        Kind::Set(_) => Some(more::set),
        Kind::Slct(slct) => Some(more::slct(slct)),
        Kind::Mov(_) => mov::mov(place.files),
        Kind::Pack { ty, parts } => mov::lower_pack(*ty, *parts),
        Kind::Unpack { ty, parts } => mov::lower_unpack(*ty, *parts),
        Kind::Setp(setp) => compare::lower(setp),
        Kind::Cvt(cvt) => Some(convert::lower(cvt, place).unwrap_or(general::run)),
        Kind::Mma(shape) => Some(mma::lower(*shape)),
        _ => None,
    }
}
