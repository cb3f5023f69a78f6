//! The interpreter as a runner.

use ptx_builder::interp::{Launch, LoadedProgram, Memory, Options, Program, launch};
use ptx_builder::parse;

use crate::runner::{Found, Launched, Request, RunError, Runner};

/// Runs modules on the interpreter; with [`Options::default`] every sanitizer is on.
pub struct Interpreter {
    options: Options,
    memory: Memory,
    loaded: Option<LoadedProgram>,
}

impl Interpreter {
    /// An interpreter without memory or a module.
    pub fn new(options: Options) -> Self {
        Self { options, memory: Memory::new(), loaded: None }
    }

    fn loaded(&self) -> Result<&LoadedProgram, RunError> {
        self.loaded.as_ref().ok_or_else(|| RunError("no module is loaded".into()))
    }
}

impl Default for Interpreter {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

/// An error of any kind by its message.
fn message(error: impl std::fmt::Display) -> RunError {
    RunError(error.to_string())
}

impl Runner for Interpreter {
    fn load(&mut self, text: &str) -> Result<(), RunError> {
        self.loaded = None;
        self.memory = Memory::new();
        let verified = parse(text).map_err(message)?.verify_foreign().map_err(message)?;
        let program = Program::new(&verified).map_err(message)?;
        self.loaded = Some(program.load(&self.memory).map_err(message)?);
        Ok(())
    }

    fn alloc(&mut self, bytes: u64) -> Result<u64, RunError> {
        self.memory.alloc(bytes).map_err(message)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), RunError> {
        self.memory.write(address, bytes).map_err(message)
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), RunError> {
        self.memory.read(address, bytes).map_err(message)
    }

    fn variable(&mut self, name: &str) -> Result<(u64, u64), RunError> {
        self.loaded()?.global(name).ok_or_else(|| RunError(format!("the module has no variable `{name}`")))
    }

    fn launch(&mut self, request: &Request<'_>) -> Result<Launched, RunError> {
        let kernel = self.loaded()?.kernel(request.kernel);
        let kernel =
            kernel.ok_or_else(|| RunError(format!("the module has no kernel `{}`", request.kernel)))?;
        let what = Launch {
            kernel: &kernel,
            grid: request.grid,
            block: request.block,
            cluster: request.cluster,
            dynamic_shared: request.shared,
            params: request.params,
        };
        let report = launch(&self.memory, &what, &self.options).map_err(message)?;
        let found = report.all().map(|f| Found { kind: format!("{:?}", f.kind), text: f.to_string() });
        Ok(Launched {
            findings: Some(found.collect()),
            fault: report.fault.as_ref().map(|f| format!("{:?}", f.kind)),
            printed: Some(report.printed),
        })
    }
}
