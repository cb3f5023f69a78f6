//! What a frame consists of: registers, constants, parameter memory, local and shared arrays.

use super::step::ParamRange;
use crate::ids::{FuncId, GlobalId, RegClass, RegId};
use crate::inst::{Space, SpecialReg};
use crate::interp::regs::File;
use crate::module::{Array, Function, Param};
use std::collections::HashMap;

/// Where a constant row of a frame gets its value from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::interp) enum Source {
    Bits(u64),
    Special(SpecialReg),
    /// Offset from the start of the static shared memory of the function.
    Shared(u32),
    /// A variable of the module in shared memory.
    ModuleShared(GlobalId),
    DynamicShared,
    /// Offset from the start of the frame's local memory.
    Local(u32),
    /// Offset in the frame's parameter memory.
    Param(u32),
    Global(GlobalId),
    Function(FuncId),
}

/// A row that is filled when a frame is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) struct Constant {
    pub(in crate::interp) file: File,
    pub(in crate::interp) slot: u32,
    pub(in crate::interp) source: Source,
}

/// Arrays one after the other, each at its alignment.
#[derive(Clone, Debug, Default)]
pub(in crate::interp) struct ArrayLayout {
    /// By [`crate::ArrayId`]; those of other spaces have 0.
    pub(in crate::interp) offsets: Vec<u32>,
    pub(in crate::interp) bytes: u32,
}

impl ArrayLayout {
    fn new(arrays: &[Array], space: Space) -> Self {
        let mut layout = Self::default();
        for array in arrays {
            if array.space == space {
                let offset = align(layout.bytes, array.align);
                layout.offsets.push(offset);
                layout.bytes = offset.saturating_add(u32::try_from(array.bytes()).unwrap_or(u32::MAX));
            } else {
                layout.offsets.push(0);
            }
        }
        layout
    }
}

/// The layout of the frames of a function.
#[derive(Debug)]
pub(in crate::interp) struct Layout {
    /// The rows of registers; those that no instruction names have none.
    registers: HashMap<RegId, u32>,
    /// Rows of the three files.
    pub(in crate::interp) w: u32,
    pub(in crate::interp) l: u32,
    pub(in crate::interp) p: u32,
    pub(in crate::interp) constants: Vec<Constant>,
    known: HashMap<(File, Source), u32>,
    scratch: [Option<u32>; 3],
    carry: Option<u32>,
    pub(in crate::interp) params: Vec<ParamRange>,
    pub(in crate::interp) returns: Vec<ParamRange>,
    pub(in crate::interp) call_params: Vec<ParamRange>,
    /// Bytes of parameter memory.
    pub(in crate::interp) param_bytes: u32,
    pub(in crate::interp) shared: ArrayLayout,
    pub(in crate::interp) local: ArrayLayout,
}

/// The next multiple of an alignment; sizes beyond all memory stay there.
pub(in crate::interp) fn align(offset: u32, to: u32) -> u32 {
    offset.checked_next_multiple_of(to.max(1)).unwrap_or(u32::MAX)
}

pub(in crate::interp) fn file_of(class: RegClass) -> File {
    match class {
        RegClass::Pred => File::P,
        RegClass::B16 | RegClass::B32 | RegClass::F32 => File::W,
        RegClass::B64 | RegClass::F64 => File::L,
    }
}

impl Layout {
    pub(super) fn new(function: &Function) -> Self {
        let mut param_bytes = 0;
        let mut place = |params: &[Param]| -> Vec<ParamRange> {
            params
                .iter()
                .map(|param| {
                    // Rows of parameter memory are words.
                    let offset = align(param_bytes, param.ty.align().max(4));
                    let bytes = param.ty.bytes();
                    param_bytes = offset.saturating_add(bytes);
                    ParamRange { offset, bytes }
                })
                .collect()
        };
        let params = place(&function.params);
        let returns = place(&function.returns);
        let call_params = place(&function.call_params);
        Self {
            registers: HashMap::new(),
            w: 0,
            l: 0,
            p: 0,
            constants: Vec::new(),
            known: HashMap::new(),
            scratch: [None; 3],
            carry: None,
            params,
            returns,
            call_params,
            param_bytes,
            shared: ArrayLayout::new(&function.arrays, Space::Shared),
            local: ArrayLayout::new(&function.arrays, Space::Local),
        }
    }

    /// The row of a register, a new one for a register that was not asked for before.
    pub(super) fn register(&mut self, reg: RegId) -> (File, u32) {
        let file = file_of(reg.class());
        if let Some(slot) = self.registers.get(&reg) {
            return (file, *slot);
        }
        let slot = self.row(file);
        self.registers.insert(reg, slot);
        (file, slot)
    }

    fn row(&mut self, file: File) -> u32 {
        let rows = match file {
            File::P => &mut self.p,
            File::W => &mut self.w,
            File::L => &mut self.l,
        };
        let slot = *rows;
        *rows += 1;
        slot
    }

    /// The row that holds a constant.
    pub(super) fn constant(&mut self, file: File, source: Source) -> u32 {
        if let Some(slot) = self.known.get(&(file, source)) {
            return *slot;
        }
        let slot = self.row(file);
        self.known.insert((file, source), slot);
        self.constants.push(Constant { file, slot, source });
        slot
    }

    /// The row of the carry flags.
    pub(super) fn carry(&mut self) -> u32 {
        match self.carry {
            Some(slot) => slot,
            None => {
                let slot = self.row(File::P);
                *self.carry.insert(slot)
            }
        }
    }

    /// The row for results that nobody wants.
    pub(super) fn scratch(&mut self, file: File) -> u32 {
        match self.scratch[file as usize] {
            Some(slot) => slot,
            None => {
                let slot = self.row(file);
                self.scratch[file as usize] = Some(slot);
                slot
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registers_that_are_used_take_room() {
        let function = Function::new("k");
        let mut layout = Layout::new(&function);
        let [high, low] = [RegId::MAX_INDEX - 1, 2].map(|index| RegId::new(RegClass::B64, index));
        assert_eq!(layout.register(high), (File::L, 0));
        assert_eq!(layout.register(low), (File::L, 1));
        assert_eq!(layout.register(high), (File::L, 0));
        assert_eq!(layout.register(RegId::new(RegClass::B32, 2)), (File::W, 0));
        assert_eq!((layout.p, layout.w, layout.l), (0, 1, 2));
    }
}
