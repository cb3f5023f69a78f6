//! A backend that runs groups the way a fused kernel might: results are written before the last operand is read, and
//! intermediates are left as garbage.

use graph::groups::{AttentionInput, GatedProjection, GroupCall, Head, ResidualProjection};
use graph::reference::{ReferenceDispatch, ReferenceError};
use graph::{
    Add, Argmax, Attention, BufferId, CopyTensor, EmbedRows, KernelDispatch, KvScatter, Mul, MulMat, OpCall,
    QuantizeQ8, RmsNorm, Rope, Silu, SoftMax, SwiGlu,
};

/// The byte that stands for garbage: a not-a-number in every float, an index out of range.
pub const POISON: u8 = 0xff;

/// What is wrong with a fused kernel: the operations that it computes, changed.
pub type Mistake = fn(&mut Vec<OpCall>);

/// The reference, with groups fused.
pub struct Fused {
    pub inner: ReferenceDispatch,
    pub mistake: Mistake,
    /// Groups that were run.
    pub groups: usize,
}

type Launches = Result<usize, ReferenceError>;

impl Fused {
    pub fn new(inner: ReferenceDispatch) -> Self {
        Self { inner, mistake: |_| (), groups: 0 }
    }

    fn run(&mut self, call: GroupCall, parts: &[OpCall]) -> Launches {
        let residual = match call {
            GroupCall::ResidualProjection(a) => Some(a.residual),
            _ => None,
        };
        let written = || parts.iter().map(OpCall::output).filter(|view| view.buffer == BufferId::Workspace);
        // What is written shows up early. Only an element of the residual is read before the result's is written there.
        let mut early = self.inner.clone();
        for view in written().filter(|view| !residual.is_some_and(|r| r.same_bytes(view))) {
            early.bytes_mut(&view)?.fill(POISON);
        }
        let mut computed = parts.to_vec();
        (self.mistake)(&mut computed);
        for part in computed {
            part.dispatch(&mut early)?;
        }
        for view in written() {
            self.inner.bytes_mut(&view)?.fill(POISON);
        }
        for view in call.results() {
            let bytes = early.bytes(&view)?;
            self.inner.bytes_mut(&view)?.copy_from_slice(bytes);
        }
        self.groups += 1;
        Ok(1)
    }
}

macro_rules! forward {
    ($($method:ident($args:ty),)*) => {
        $(fn $method(&mut self, a: $args) -> Launches {
            self.inner.$method(a)
        })*
    };
}

macro_rules! fuse {
    ($($method:ident($args:ident),)*) => {
        $(fn $method(&mut self, a: &$args, parts: &[OpCall]) -> Launches {
            self.run(GroupCall::$args(*a), parts)
        })*
    };
}

impl KernelDispatch for Fused {
    type Error = ReferenceError;

    fn check(&self, _: &OpCall) -> Result<(), ReferenceError> {
        Ok(())
    }

    forward! {
        embed_rows(EmbedRows), rms_norm(RmsNorm), mul_mat(MulMat), add(Add), mul(Mul), silu(Silu), swi_glu(SwiGlu),
        rope(Rope), kv_scatter(KvScatter), attention(Attention), soft_max(SoftMax), copy(CopyTensor),
        quantize_q8(QuantizeQ8), argmax(Argmax),
    }

    fuse! {
        attention_input(AttentionInput), residual_projection(ResidualProjection), gated_projection(GatedProjection),
        head(Head),
    }
}
