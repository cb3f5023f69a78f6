//! Calls of functions that the driver provides.

use super::{KernelBuilder, Reg, U32, U64, Val};
use crate::ids::CallParamId;
use crate::inst::{Address, Base, Call, Callee, Kind, Operand, Space, St};
use crate::module::{Function, GRAPH_SET_CONDITIONAL, Param, ParamTy};
use crate::symbols::Linkage;
use crate::ty::Ty;

impl KernelBuilder {
    /// Sets the value of a conditional node (`cudaGraphSetConditional`): whether its body runs, runs once more, or
    /// which of its bodies does. `handle` is that of a node of the graph in which the kernel runs; what was set last
    /// counts when the node is reached. Each thread that gets here sets it, so one should.
    ///
    /// The driver provides the function, from CUDA 12.4 on: an older one does not load the module. Every target and
    /// version of PTX has the call. In [`guarded`](Self::guarded) only the call is under the guard: handle and value are
    /// defined in all threads.
    pub fn graph_set_conditional(&mut self, handle: Reg<U64>, value: impl Val<U32>) {
        self.sets_conditional = true;
        // PTX has no guard on the stores of arguments, and `.uni` only where all threads agree on that of the call.
        let guard = self.guard.take();
        let args = vec![self.argument(Ty::B64, handle.operand()), self.argument(Ty::B32, value.operand())];
        self.guard = guard;
        let callee = Callee::Function(self.set_conditional);
        self.push(Kind::Call(Call { uni: guard.is_none(), callee, returns: vec![], args }), vec![]);
    }

    /// A value in a variable of its own, for the call that follows.
    fn argument(&mut self, ty: Ty, value: Operand) -> CallParamId {
        let params = &mut self.function.call_params;
        let id = CallParamId(u32::try_from(params.len()).unwrap_or(u32::MAX));
        params.push(Param { name: id.to_string(), ty: ParamTy::Scalar(ty) });
        let address = Operand::Addr(Address { base: Base::CallParam(id), offset: 0 });
        self.push(Kind::St(St::plain(Space::Param, ty)), vec![address, value]);
        id
    }
}

/// The declaration of what [`KernelBuilder::graph_set_conditional`] calls.
pub(super) fn set_conditional() -> Function {
    let param = |name: &str, ty| Param { name: name.to_owned(), ty: ParamTy::Scalar(ty) };
    let params = vec![param("handle", Ty::B64), param("value", Ty::B32)];
    Function { linkage: Linkage::Extern, params, ..Function::device(GRAPH_SET_CONDITIONAL) }
}
