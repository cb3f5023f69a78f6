//! Memory of the CPU engine: one workspace, values and indices that it owns, weights that it borrows.

use bytemuck::Zeroable;
use bytemuck::allocation::try_zeroed_vec;
use graph::{BufferId, TensorView};

use super::CpuError;
use crate::error::Error;

/// What a leaf of a graph is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding<'a> {
    /// Bytes that are only read, in place, without alignment: weights.
    Bytes(&'a [u8]),
    /// An element of [`CpuMemory::values`]: caches, tables, norm weights.
    Values(usize),
    /// An element of [`CpuMemory::indices`]: tokens, positions, sequences.
    Indices(usize),
    /// Nothing.
    Unbound,
}

/// The memory that operations write, and the F32 and U32 leaves that they read.
#[derive(Debug, Default)]
pub struct CpuMemory {
    /// The graph's workspace. Views on it are multiples of four bytes.
    pub workspace: Vec<f32>,
    /// F32 leaves.
    pub values: Vec<Vec<f32>>,
    /// U32 leaves.
    pub indices: Vec<Vec<u32>>,
}

/// `len` zeros, which cost nothing until they are touched.
///
/// # Errors
/// [`Error::Memory`] if the system does not give them.
pub fn zeros<T: Zeroable>(what: &str, len: usize) -> Result<Vec<T>, Error> {
    let memory = || Error::Memory { what: what.to_owned(), bytes: len.saturating_mul(size_of::<T>()) };
    try_zeroed_vec(len).map_err(|()| memory())
}

/// Memory borrowed for one operation.
pub(super) struct Operands<'a, const N: usize> {
    /// The result's memory.
    pub output: &'a mut [f32],
    /// The operands; `None` where an operand is the result's memory itself.
    pub inputs: [Option<&'a [f32]>; N],
}

impl<'a, const N: usize> Operands<'a, N> {
    /// All operands, none of which may be the result's memory.
    pub fn disjoint(self, output: &TensorView) -> Result<(&'a mut [f32], [&'a [f32]; N]), CpuError> {
        if self.inputs.iter().any(Option::is_none) {
            return Err(CpuError::Overlap { buffer: output.buffer });
        }
        Ok((self.output, self.inputs.map(Option::unwrap_or_default)))
    }
}

/// The F32 memory of a result in the workspace and of its operands, which may be leaves or lie in the workspace, each
/// either disjoint from the result or the very same bytes. (Views of other types are borrowed as the f32 words that
/// hold them.)
pub(super) fn operands<'m, const N: usize>(
    workspace: &'m mut [f32],
    leaf_values: &'m [Vec<f32>],
    leaves: &[Binding<'_>],
    output: &TensorView,
    inputs: [&TensorView; N],
) -> Result<Operands<'m, N>, CpuError> {
    let out = words(output);
    if output.buffer != BufferId::Workspace {
        return Err(CpuError::Unbound { buffer: output.buffer, dtype: output.dtype });
    }
    for view in inputs.into_iter().chain([output]) {
        if view.buffer == BufferId::Workspace {
            check_end(workspace.len(), view)?;
        }
    }
    let (before, rest) = workspace.split_at_mut(out.start);
    let (result, after) = rest.split_at_mut(out.end - out.start);
    let (before, after) = (&*before, &*after);
    let mut borrowed = [None; N];
    for (slot, view) in borrowed.iter_mut().zip(inputs) {
        let range = words(view);
        *slot = match view.buffer {
            BufferId::Leaf(_) => Some(values(leaf_values, leaves, view)?),
            BufferId::Workspace if view.same_bytes(output) => None,
            BufferId::Workspace if range.end <= out.start => Some(&before[range]),
            BufferId::Workspace if range.start >= out.end => {
                Some(&after[range.start - out.end..range.end - out.end])
            }
            BufferId::Workspace => return Err(CpuError::Overlap { buffer: view.buffer }),
        };
    }
    Ok(Operands { output: result, inputs: borrowed })
}

impl CpuMemory {
    /// The memory of a view of type F32 (or of whole words), in the workspace or a leaf.
    pub fn read(&self, leaves: &[Binding<'_>], view: &TensorView) -> Result<&[f32], CpuError> {
        match view.buffer {
            BufferId::Leaf(_) => values(&self.values, leaves, view),
            BufferId::Workspace => {
                check_end(self.workspace.len(), view)?;
                Ok(&self.workspace[words(view)])
            }
        }
    }

    /// An F32 leaf, to be written, by its index in [`values`](Self::values).
    pub(super) fn value_index(&self, leaves: &[Binding<'_>], view: &TensorView) -> Result<usize, CpuError> {
        values(&self.values, leaves, view)?;
        match binding(leaves, view) {
            Binding::Values(index) => Ok(index),
            _ => Err(CpuError::Unbound { buffer: view.buffer, dtype: view.dtype }),
        }
    }
}

/// A U32 leaf.
pub(super) fn leaf_indices<'i>(
    indices: &'i [Vec<u32>],
    leaves: &[Binding<'_>],
    view: &TensorView,
) -> Result<&'i [u32], CpuError> {
    let unbound = CpuError::Unbound { buffer: view.buffer, dtype: view.dtype };
    let Binding::Indices(index) = binding(leaves, view) else { return Err(unbound) };
    let leaf = indices.get(index).ok_or(unbound)?;
    check_end(leaf.len(), view)?;
    Ok(&leaf[words(view)])
}

/// The bytes of a leaf of any type.
pub(super) fn leaf_bytes<'w>(
    values: &'w [Vec<f32>],
    indices: &'w [Vec<u32>],
    leaves: &[Binding<'w>],
    view: &TensorView,
) -> Result<&'w [u8], CpuError> {
    let unbound = CpuError::Unbound { buffer: view.buffer, dtype: view.dtype };
    let bytes: &'w [u8] = match binding(leaves, view) {
        Binding::Bytes(bytes) => bytes,
        Binding::Values(index) => bytemuck::cast_slice(values.get(index).ok_or(unbound)?),
        Binding::Indices(index) => bytemuck::cast_slice(indices.get(index).ok_or(unbound)?),
        Binding::Unbound => return Err(unbound),
    };
    let end = view.end();
    let range = view.offset as usize..end as usize;
    bytes.get(range).ok_or(CpuError::TooShort { buffer: view.buffer, bytes: bytes.len(), end })
}

fn binding<'w>(leaves: &[Binding<'w>], view: &TensorView) -> Binding<'w> {
    match view.buffer {
        BufferId::Leaf(id) => leaves.get(id.index()).copied().unwrap_or(Binding::Unbound),
        BufferId::Workspace => Binding::Unbound,
    }
}

fn values<'v>(
    values: &'v [Vec<f32>],
    leaves: &[Binding<'_>],
    view: &TensorView,
) -> Result<&'v [f32], CpuError> {
    let unbound = CpuError::Unbound { buffer: view.buffer, dtype: view.dtype };
    let Binding::Values(index) = binding(leaves, view) else { return Err(unbound) };
    let leaf = values.get(index).ok_or(unbound)?;
    check_end(leaf.len(), view)?;
    Ok(&leaf[words(view)])
}

/// The view's range in 4-byte words.
fn words(view: &TensorView) -> std::ops::Range<usize> {
    view.offset as usize / 4..view.end() as usize / 4
}

fn check_end(words: usize, view: &TensorView) -> Result<(), CpuError> {
    if view.end() as usize > words * 4 || !view.offset.is_multiple_of(4) || !view.end().is_multiple_of(4) {
        return Err(CpuError::TooShort { buffer: view.buffer, bytes: words * 4, end: view.end() });
    }
    Ok(())
}
