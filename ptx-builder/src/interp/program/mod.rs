//! Programs: verified modules, decoded for execution.

use crate::module::Function;
use std::sync::Arc;

/// A kernel of a loaded program.
#[derive(Clone, Debug)]
pub struct Kernel {
    function: Arc<Function>,
}

impl Kernel {
    /// The symbol.
    pub fn name(&self) -> &str {
        &self.function.name
    }

    /// The IR: parameters, launch bounds, shared memory.
    pub fn function(&self) -> &Function {
        &self.function
    }
}
