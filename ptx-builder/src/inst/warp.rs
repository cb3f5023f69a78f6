//! Warp exchanges with a pair of destinations: `shfl.sync` and `match.all.sync`.

use super::{Arg, Form, Kind, Signature, What, Words, named};
use crate::ty::Ty;

named! {
    /// Which lane `shfl` reads.
    ShflMode {
        /// The lane that the operand says.
        Idx = "idx",
        /// A lane below.
        Up = "up",
        /// A lane above.
        Down = "down",
        /// The lane whose number differs in the bits that the operand says.
        Bfly = "bfly",
    }
}

pub(super) fn shfl_signature() -> Signature {
    let dest = Arg::def(Ty::B32).form(Form::Pair);
    let [lane, clamp] = [Arg::value(Ty::U32); 2];
    Signature::new(&[dest, Arg::one(What::Reg(Ty::B32)), lane, clamp, Arg::one(What::Word)])
}

pub(super) fn parse_shfl(words: &mut Words<'_>) -> Result<Kind, String> {
    words.expect("sync")?;
    let mode = words.need("a shuffle mode", ShflMode::from_name)?;
    words.expect("b32")?;
    Ok(Kind::Shfl(mode))
}

pub(super) fn match_all_signature(ty: Ty) -> Signature {
    let dest = Arg::def(Ty::U32).form(Form::Pair);
    Signature::new(&[dest, Arg::value(ty), Arg::one(What::Word)])
}

pub(super) fn elect_signature() -> Signature {
    Signature::new(&[Arg::def(Ty::U32).form(Form::Pair), Arg::one(What::Word)])
}

pub(super) fn match_all_problems(ty: Ty, report: &mut dyn FnMut(String)) {
    if !matches!(ty, Ty::B32 | Ty::B64) {
        report(format!("match has no form for .{ty}"));
    }
}

pub(super) fn parse_match_all(words: &mut Words<'_>) -> Result<Kind, String> {
    words.expect("all")?;
    words.expect("sync")?;
    Ok(Kind::MatchAll(words.ty()?))
}
