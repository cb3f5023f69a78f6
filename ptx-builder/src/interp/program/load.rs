//! Variables of a module in device memory, and the kernels that use them.

use super::{Code, FunctionCode};
use crate::inst::Space;
use crate::interp::launch::InterpError;
use crate::interp::memory::Memory;
use crate::module::Function;
use crate::symbols::{Global, Linkage, SymbolId};
use std::sync::Arc;

/// Addresses of functions are this, and 16 bytes for each function: nothing is stored there.
pub(in crate::interp) const FUNCTION_BASE: u64 = 0x40_0000_0000;

/// A program whose variables are in device memory. They are freed when it and all of its kernels are dropped.
#[derive(Clone, Debug)]
pub struct LoadedProgram(Arc<Loaded>);

#[derive(Debug)]
pub(in crate::interp) struct Loaded {
    pub(in crate::interp) code: Arc<Code>,
    memory: Memory,
    /// By [`crate::GlobalId`]; 0 for variables in shared memory.
    pub(in crate::interp) globals: Vec<u64>,
}

/// A kernel of a loaded program. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Kernel {
    loaded: Arc<Loaded>,
    index: u32,
}

impl LoadedProgram {
    /// The kernel of that name.
    pub fn kernel(&self, name: &str) -> Option<Kernel> {
        let mut kernels = self.0.code.module.kernels();
        let (id, _) = kernels.find(|(_, function)| function.name == name)?;
        Some(Kernel { loaded: Arc::clone(&self.0), index: id.0 })
    }

    /// Address and size of a variable in global or constant memory.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        let globals = self.0.code.module.globals.iter().zip(&self.0.globals);
        let mut found = globals.filter(|(global, _)| global.name == name && global.space != Space::Shared);
        found.next().map(|(global, address)| (*address, global.bytes()))
    }
}

impl Kernel {
    /// The symbol.
    pub fn name(&self) -> &str {
        &self.function().name
    }

    /// The IR: parameters, launch bounds, shared memory.
    pub fn function(&self) -> &Function {
        &self.loaded.code.module.functions[self.index as usize]
    }

    /// Bytes of static shared memory, with variables of the module and arrays of device functions.
    pub fn static_shared_bytes(&self) -> u32 {
        self.code().shared.bytes
    }

    pub(in crate::interp) fn loaded(&self) -> &Arc<Loaded> {
        &self.loaded
    }

    pub(in crate::interp) fn index(&self) -> u32 {
        self.index
    }

    pub(in crate::interp) fn code(&self) -> &FunctionCode {
        &self.loaded.code.functions[self.index as usize]
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        for address in self.globals.iter().filter(|address| **address != 0) {
            // The host may have freed it: then there is nothing left to do.
            let _ = self.memory.free(*address);
        }
    }
}

pub(super) fn load(code: &Arc<Code>, memory: &Memory) -> Result<LoadedProgram, InterpError> {
    let failed = |error: crate::interp::memory::MemoryError| InterpError::Memory(error.to_string());
    let mut loaded = Loaded { code: Arc::clone(code), memory: memory.clone(), globals: Vec::new() };
    for global in &code.module.globals {
        if global.space == Space::Shared {
            loaded.globals.push(0);
            continue;
        }
        if global.linkage == Linkage::Extern {
            return Err(InterpError::Undefined(global.name.clone()));
        }
        let bytes = global.bytes().max(1);
        let constant = global.space == Space::Const;
        let address = if constant { memory.alloc_constant(bytes) } else { memory.alloc(bytes) };
        loaded.globals.push(address.map_err(failed)?);
    }
    for (global, address) in code.module.globals.iter().zip(&loaded.globals) {
        if *address != 0 {
            memory.write(*address, &initial(global, &loaded.globals)).map_err(failed)?;
        }
    }
    Ok(LoadedProgram(Arc::new(loaded)))
}

/// The initial value of a variable, with the addresses in it.
fn initial(global: &Global, addresses: &[u64]) -> Vec<u8> {
    let mut bytes = global.init.clone();
    bytes.resize(usize::try_from(global.bytes().max(1)).unwrap_or(0), 0);
    for relocation in &global.relocations {
        let symbol = match relocation.symbol {
            SymbolId::Function(id) => function_address(id.0),
            SymbolId::Global(id) => addresses.get(id.index()).copied().unwrap_or(0),
        };
        let value = symbol.wrapping_add_signed(relocation.addend).to_le_bytes();
        let from = usize::from(relocation.first);
        let part = value.get(from..(from + usize::from(relocation.bytes)).min(8)).unwrap_or(&[]);
        let at = relocation.offset as usize;
        if let Some(target) = bytes.get_mut(at..at + part.len()) {
            target.copy_from_slice(part);
        }
    }
    bytes
}

/// The address of a function as a value.
pub(in crate::interp) fn function_address(index: u32) -> u64 {
    FUNCTION_BASE + u64::from(index) * 16
}
