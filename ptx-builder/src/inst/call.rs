//! `call`: parameters travel in `.param` variables of the caller.
//!
//! ```text
//! st.param.b32 [x], %r1;
//! call (y), square, (x);
//! ld.param.b32 %r2, [y];
//! ```

use super::{Arg, Signature, What};
use crate::ids::{CallParamId, FuncId, PrototypeId};
use crate::ty::Ty;

/// Who is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Callee {
    /// A function of the module.
    Function(FuncId),
    /// The function whose address is in the register that is the instruction's operand, with the signature of a
    /// prototype.
    Pointer(PrototypeId),
}

/// `call{.uni} (returns), callee, (args){, prototype}`.
///
/// Its only operand is the register with the address of an indirect callee; a direct call has none.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    /// All threads that reach it agree on the callee.
    pub uni: bool,
    /// Who is called.
    pub callee: Callee,
    /// The variables that take the results.
    pub returns: Vec<CallParamId>,
    /// The variables that hold the arguments.
    pub args: Vec<CallParamId>,
}

impl Call {
    pub(super) fn signature(&self) -> Signature {
        match self.callee {
            Callee::Function(_) => Signature::new(&[]),
            Callee::Pointer(_) => Signature::new(&[Arg::one(What::Reg(Ty::U64))]),
        }
    }
}
