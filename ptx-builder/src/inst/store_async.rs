//! Stores that a barrier object counts: `st.async`.

use super::space::{Space, Width};
use super::{Arg, Signature, What, Words};
use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

/// `st.async{.weak}.shared::cluster.mbarrier::complete_tx::bytes{.vec}.ty [a], value, [mbar]`.
///
/// The store is weak. When it is done, its bytes are taken from the transaction count of the barrier object, which is in
/// the block of the address; who sees the phase complete sees what was stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StAsync {
    /// Elements.
    pub width: Width,
    /// Of an element: 32 or 64 bits.
    pub ty: Ty,
}

impl StAsync {
    /// Bytes moved, which is also the alignment that the address needs.
    pub const fn bytes(&self) -> u32 {
        self.ty.bytes() * self.width.count() as u32
    }

    pub(super) fn signature(&self) -> Signature {
        let address = Arg::one(What::Address(Space::SharedCluster));
        Signature::new(&[address, self.width.arg(Arg::one(What::Value(self.ty))), address])
    }

    pub(super) fn requires() -> Requires {
        Requires::new(8, 1, 90)
    }

    pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
        if !matches!(self.ty, Ty::B32 | Ty::B64 | Ty::U32 | Ty::U64 | Ty::S32 | Ty::S64 | Ty::F32 | Ty::F64) {
            report(format!("st.async has no form for .{}", self.ty));
        }
        if self.bytes() > 16 {
            report(format!("a store moves at most 16 bytes, not {}", self.bytes()));
        }
    }

    /// After `st.async`.
    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        words.eat("weak");
        words.expect("shared::cluster")?;
        words.expect("mbarrier::complete_tx::bytes")?;
        let width = Width::parse(words);
        Ok(Self { width, ty: words.ty()? })
    }
}

impl fmt::Display for StAsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, ty } = self;
        write!(f, "st.async.shared::cluster.mbarrier::complete_tx::bytes{width}.{ty}")
    }
}
