//! Whether the steps that a graph repeats on the device go on.

use ptx_builder::{
    B64, KernelBuilder, Load, MemOrder, Module, Reg, S32, Scope, Space, Store, Target, U32, U64,
};

use crate::cases::Case;
use crate::emit;
use crate::support::{boxed, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

/// Whether the loop of a graph goes on: if [`together`](Self::new) more steps end at the limit or before.
///
/// Of `steps` the first entry counts: the number of the next step. `control` lies in host memory, where the host may raise
/// the limit while the loop runs: `[`[`WORDS`](Self::WORDS)`]`
///
/// | words | |
/// |---|---|
/// | 0, 1 | the number of the loop's condition (CUDA driver API, `cuGraphConditionalHandleCreate`), low half first; 0 if there is none to set |
/// | [`LIMIT`](Self::LIMIT) | the number of the step that is not to run any more; differences are taken modulo 2^32 |
/// | [`ENDED`](Self::ENDED), and the next | written: the number of the next step, and whether the loop has ended, 0 or 1 |
///
/// The last two are written by one store of 64 bits at system scope, so a host that finds a 1 also finds the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopCondition {
    together: u32,
}

impl LoopCondition {
    /// Words of `control`.
    pub const WORDS: usize = 6;
    /// The word that holds the limit.
    pub const LIMIT: usize = 2;
    /// The first of the two words that tell whether the loop has ended.
    pub const ENDED: usize = 4;

    /// The kernel for a loop that runs `together` steps at a time, less than 2^31.
    ///
    /// # Safety
    ///
    /// Whenever the kernel runs, the first two words of `control` are 0, or the number of a condition of the graph that it
    /// runs in: the driver takes any other number for one, too.
    pub const unsafe fn new(together: u32) -> Self {
        Self { together }
    }

    /// Whether the loop goes on when step number `next` is next.
    pub const fn goes_on(self, next: u32, limit: u32) -> bool {
        limit.wrapping_sub(next).cast_signed() >= self.together.cast_signed()
    }

    fn body(self, k: &mut KernelBuilder, steps: Reg<U64>, control: Reg<U64>) {
        let told = Load::WEAK.order(MemOrder::Relaxed(Scope::Sys));
        k.comment("what the host tells does not have to be waited for");
        let condition = k.load::<U64>(Space::Global, told, control);
        let limit = k.load::<U32>(Space::Global, told, control + 4 * Self::LIMIT as i32);
        emit::wait(k);
        let next = k.ld_global::<U32>(steps);
        let left = k.sub(limit, next);
        // Negative if the limit has been taken back.
        let goes_on = k.ge(left.cast::<S32>(), self.together.cast_signed());
        let value = k.selp(goes_on, 1, 0);
        let has_condition = k.ne(condition, 0);
        k.if_(has_condition, |k| k.graph_set_conditional(condition, value));
        let ended = k.sub(1, value);
        let pair = k.pack64(next, ended);
        let whole = Store::WEAK.order(MemOrder::Relaxed(Scope::Sys));
        k.store::<B64>(Space::Global, whole, control + 4 * Self::ENDED as i32, pair);
    }
}

impl Kernel for LoopCondition {
    fn name(&self) -> String {
        format!("loop_condition_{}", self.together)
    }

    fn params(&self) -> Vec<Param> {
        let control = u32_param("control", Self::WORDS as u64);
        vec![u32_param("steps", 1), Param { access: Access::ReadWrite, align: 8, ..control }]
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry { grid: [1, 1, 1], block: [1, 1, 1], dynamic_shared: 0 }
    }

    fn cost(&self, _context: u64) -> Cost {
        Cost { bytes_read: 16, bytes_written: 8, operations: 0 }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module_that_waits(self, target, |k, pointers| {
            emit::let_next_begin(k);
            if let [steps, control] = *pointers {
                self.body(k, steps, control);
            }
        })
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    // SAFETY: who runs the catalogue's kernels gives zeros where they take integers.
    vec![boxed(Ok(unsafe { LoopCondition::new(8) }))]
}

/// The conformance cases of this family. None has a condition to set, which only a graph has.
pub(crate) fn cases() -> Vec<Case> {
    let case = |data: &str, together: u32, next: u32, limit: u32| {
        // SAFETY: there is no condition, see below.
        let kernel = unsafe { LoopCondition::new(together) };
        let mut control = [0, 0, limit, 7, 8, 9];
        let case = Case::new(kernel, data).with_u32("steps", &[next]).with_u32("control", &control);
        control[LoopCondition::ENDED..].copy_from_slice(&[next, (!kernel.goes_on(next, limit)).into()]);
        case.expect_u32("control", &control)
    };
    vec![
        case("room_for_more", 4, 100, 117),
        case("room_for_all", 4, 100, 104),
        case("room_for_less", 4, 100, 103),
        case("at_the_limit", 4, 100, 100),
        case("taken_back", 4, 100, 20),
        case("one_step", 1, 100, 101),
        case("count_wraps", 4, u32::MAX - 1, 5),
        case("count_wraps_at_the_end", 4, u32::MAX - 1, 1),
        case("taken_back_by_much", 4, 100, 100u32.wrapping_sub(1 << 30)),
    ]
}
