//! The memory that kernels work in beside their tensors.

use graph::{ComputeGraph, ExecError, MemoryPlan, execute_graph};
use kernels::{Access, Param};

use super::error::CudaError;
use super::executor::CudaExecutor;
use super::layout::Layout;
use super::machine::Machine;
use super::memory_map::Span;
use super::plan::Argument;

/// Bytes of scratch and of counters, as [`Access`] tells them apart.
///
/// Each launch of a plan gets its own from the start of what there is, so launches that have some are ordered, by edges
/// that follow from sharing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkingMemory {
    /// Bytes without contents between launches.
    pub scratch: u64,
    /// Bytes that are zero between launches, and before the first.
    pub counters: u64,
}

impl WorkingMemory {
    /// What a kernel with these parameters needs.
    ///
    /// # Errors
    /// [`CudaError::Overflow`] if it does not fit 64 bits.
    pub fn of(params: &[Param]) -> Result<Self, CudaError> {
        let mut places = Places::default();
        for param in params {
            places.place(param)?;
        }
        Ok(Self { scratch: places.scratch.bytes(), counters: places.counters.bytes() })
    }

    /// What the kernels of `graph` for `machine` need, one after the other.
    ///
    /// # Errors
    /// If an operation has no kernel.
    pub fn of_graph(
        graph: &ComputeGraph,
        plan: &MemoryPlan,
        machine: Machine,
    ) -> Result<Self, ExecError<CudaError>> {
        let mut executor = CudaExecutor::sizing(machine);
        execute_graph(graph, plan, &mut executor)?;
        Ok(executor.working_memory())
    }

    /// Enough for one or the other.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { scratch: self.scratch.max(other.scratch), counters: self.counters.max(other.counters) }
    }
}

/// Where the working parameters of a kernel lie in the memory for them.
#[derive(Debug, Default)]
struct Places {
    scratch: Layout,
    counters: Layout,
}

impl Places {
    /// The offset of `param` in the memory of its kind; `None` if it is a tensor.
    fn place(&mut self, param: &Param) -> Result<Option<u64>, CudaError> {
        let layout = match param.access {
            Access::Scratch => &mut self.scratch,
            Access::Counter => &mut self.counters,
            Access::Read | Access::Write | Access::ReadWrite => return Ok(None),
        };
        let offset = layout.place(param.bytes);
        offset.map(Some).ok_or_else(|| CudaError::Overflow { what: param.name.to_owned() })
    }
}

/// The arguments of a kernel: `tensors` in their order, and between them its working memory from what is bound.
///
/// # Errors
/// [`CudaError::NoWorkingMemory`] if that is too little.
pub(super) fn arguments(
    kernel: &str,
    params: &[Param],
    tensors: Vec<Argument>,
    [scratch, counters]: [Option<Span>; 2],
) -> Result<Vec<Argument>, CudaError> {
    let (mut places, mut tensors) = (Places::default(), tensors.into_iter());
    let mut arguments = Vec::with_capacity(params.len());
    for param in params {
        let Some(offset) = places.place(param)? else {
            arguments.extend(tensors.next());
            continue;
        };
        let bound = if param.access == Access::Scratch { scratch } else { counters };
        let span = slice(bound, (kernel, param.name), (offset, param.bytes))?;
        arguments.push(Argument { span, element: param.element });
    }
    // One too many is for the plan to refuse, as one too few is.
    arguments.extend(tensors);
    Ok(arguments)
}

/// `bytes` of what is bound, from `offset` on, for a parameter of a kernel.
///
/// # Errors
/// [`CudaError::NoWorkingMemory`] if that is too little.
pub(super) fn slice(
    bound: Option<Span>,
    (kernel, param): (&str, &'static str),
    (offset, bytes): (u64, u64),
) -> Result<Span, CudaError> {
    let span = bound.and_then(|bound| bound.slice(offset, bytes));
    span.ok_or_else(|| CudaError::NoWorkingMemory {
        kernel: kernel.to_owned(),
        param,
        needs: offset.saturating_add(bytes),
        bytes: bound.map_or(0, |bound| bound.bytes),
    })
}

#[cfg(test)]
mod tests {
    use tensor_formats::ElementType;

    use super::*;
    use crate::cuda::memory_map::{MemoryMap, Region, RegionKind};

    fn param(name: &'static str, access: Access, bytes: u64) -> Param {
        Param { name, access, element: ElementType::F32, bytes, align: 4 }
    }

    #[test]
    fn working_memory_lies_between_the_tensors_from_the_start_of_its_own() -> Result<(), CudaError> {
        let params = [
            param("x", Access::Read, 8),
            param("a", Access::Scratch, 300),
            param("b", Access::Scratch, 4),
            param("n", Access::Counter, 12),
            param("y", Access::Write, 8),
        ];
        let needs = WorkingMemory::of(&params)?;
        assert_eq!(needs, WorkingMemory { scratch: 768, counters: 256 });
        assert_eq!(WorkingMemory::of(&params[..1])?, WorkingMemory::default());

        let mut map = MemoryMap::new();
        let mut add = |bytes| {
            let (name, kind) = (String::new(), RegionKind::Scratch);
            let region = map.add(Region { name, kind, base: 0, bytes });
            Span { region, offset: 0, bytes }
        };
        let (tensors, scratch, counters) = (add(64), add(needs.scratch), add(needs.counters));
        let tensor =
            |offset| Argument { span: Span { offset, bytes: 8, ..tensors }, element: ElementType::F32 };
        let all = [tensor(0), tensor(8)];
        let got = arguments("k", &params, all.to_vec(), [Some(scratch), Some(counters)])?;
        let spans: Vec<_> = got.iter().map(|argument| argument.span).collect();
        let within = |of: Span, offset, bytes| Span { offset, bytes, ..of };
        assert_eq!(
            spans,
            [
                all[0].span,
                within(scratch, 0, 300),
                within(scratch, 512, 4),
                within(counters, 0, 12),
                all[1].span
            ]
        );

        let short = arguments("k", &params, all.to_vec(), [scratch.prefix(515), Some(counters)]);
        let message = short.map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(message, "k needs 516 bytes of memory for b and what comes before it, 515 are bound");
        Ok(())
    }
}
