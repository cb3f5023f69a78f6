//! Conformance on the interpreter: no GPU, and every access watched.

use std::collections::BTreeMap;

use ptx_builder::interp::{self, InterpError, Launch, Memory, MemoryError, Options, Program, Report};
use ptx_builder::{Target, VerifiedModule, VerifyErrors};
use thiserror::Error;

use super::PtxRunner;
use crate::{Access, Kernel, KernelError, Param};

/// Why a kernel did not run, or what the sanitizers found.
#[derive(Debug, Error)]
pub enum InterpreterError {
    /// The kernel could not be emitted.
    #[error(transparent)]
    Emit(#[from] KernelError),
    /// What was emitted is not valid.
    #[error(transparent)]
    Verify(#[from] VerifyErrors),
    /// The interpreter refused the launch.
    #[error(transparent)]
    Interpreter(#[from] InterpError),
    /// Device memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The module has no function of the kernel's name.
    #[error("the module has no kernel {name}")]
    NoSuchKernel {
        /// The kernel.
        name: String,
    },
    /// More arguments than parameters.
    #[error("{kernel} has {params} parameters, not {arguments}")]
    Arguments {
        /// The kernel.
        kernel: String,
        /// Its parameters.
        params: usize,
        /// What was passed.
        arguments: usize,
    },
    /// A parameter has no buffer, or one that is too short.
    #[error("{param} of {kernel} needs a buffer of {extent} bytes and has {}", bytes.map_or("none".to_owned(), |b| format!("one of {b}")))]
    Buffer {
        /// The kernel.
        kernel: String,
        /// The parameter.
        param: &'static str,
        /// Bytes that the kernel may touch.
        extent: u64,
        /// Bytes of the buffer, if there is one.
        bytes: Option<u64>,
    },
    /// A parameter that the kernel says it writes has bytes that nobody wrote.
    #[error("{kernel} leaves bytes of {param} unwritten")]
    NotWritten {
        /// The kernel.
        kernel: String,
        /// The parameter.
        param: &'static str,
    },
    /// The launch did something that it must not: a paragraph for each finding.
    #[error("{0}")]
    Findings(String),
}

/// Runs kernels on the interpreter. By default with every sanitizer; a finding fails the launch.
///
/// Each launch has a memory of its own, in which every buffer is exactly as long as the kernel says, without the
/// guard, and in which nobody has written what the kernel only writes.
#[derive(Debug)]
pub struct Interpreter {
    target: Target,
    options: Options,
    instead: Option<VerifiedModule>,
    last: Option<Report>,
}

impl Interpreter {
    /// An interpreter of kernels for `target`.
    pub fn new(target: Target) -> Self {
        Self::with_options(target, Options::default())
    }

    /// An interpreter with other sanitizers, metrics, or bounds.
    pub fn with_options(target: Target, options: Options) -> Self {
        Self { target, options, instead: None, last: None }
    }

    /// Runs `module` in the place of whatever a kernel emits, to see what a change to it does. It has to have a
    /// function of the kernel's name.
    #[must_use]
    pub fn running(self, module: VerifiedModule) -> Self {
        Self { instead: Some(module), ..self }
    }

    /// The report of the last launch, also of one that failed by what was found.
    pub fn last(&self) -> Option<&Report> {
        self.last.as_ref()
    }

    fn program(&self, kernel: &dyn Kernel) -> Result<Program, InterpreterError> {
        Ok(match &self.instead {
            Some(module) => Program::new(module)?,
            None => Program::new(&kernel.emit(self.target)?.verify()?)?,
        })
    }
}

impl PtxRunner for Interpreter {
    type Error = InterpreterError;

    fn target(&self) -> Target {
        self.target
    }

    fn run(
        &mut self,
        kernel: &dyn Kernel,
        buffers: &mut [&mut [u8]],
        arguments: &[usize],
    ) -> Result<(), InterpreterError> {
        self.last = None;
        let memory = Memory::new();
        let program = self.program(kernel)?.load(&memory)?;
        let name = kernel.name();
        let function =
            program.kernel(&name).ok_or_else(|| InterpreterError::NoSuchKernel { name: name.clone() })?;
        let params = kernel.params();
        check_buffers(&name, &params, buffers, arguments)?;
        let addresses = place(&memory, &params, buffers, arguments)?;
        let pointers: Vec<Vec<u8>> = addresses.iter().map(|address| address.to_le_bytes().to_vec()).collect();
        let geometry = kernel.geometry();
        let launch = Launch {
            kernel: &function,
            grid: geometry.grid,
            block: geometry.block,
            cluster: function.function().reqnctapercluster.unwrap_or([1; 3]),
            dynamic_shared: geometry.dynamic_shared,
            params: &pointers,
        };
        let report = self.last.insert(interp::launch(&memory, &launch, &self.options)?);
        let found: Vec<String> =
            report.fault.iter().chain(&report.findings).map(ToString::to_string).collect();
        if !found.is_empty() {
            return Err(InterpreterError::Findings(found.join("\n")));
        }
        for ((param, &buffer), address) in params.iter().zip(arguments).zip(addresses) {
            if param.access == Access::Write && !memory.initialised(address, param.bytes) {
                return Err(InterpreterError::NotWritten { kernel: name, param: param.name });
            }
            // Nobody has written all of a scratch buffer, and nobody looks at it.
            if param.access.writes() && param.access != Access::Scratch {
                memory.read(address, &mut buffers[buffer][..param.bytes as usize])?;
            }
        }
        Ok(())
    }
}

/// Allocates what the parameters point to; the address for each.
fn place(
    memory: &Memory,
    params: &[Param],
    buffers: &[&mut [u8]],
    arguments: &[usize],
) -> Result<Vec<u64>, InterpreterError> {
    let mut placed: BTreeMap<usize, u64> = BTreeMap::new();
    for &index in arguments {
        if placed.contains_key(&index) {
            continue;
        }
        let pointing = || params.iter().zip(arguments).filter(|(_, argument)| **argument == index);
        let extent = pointing().map(|(param, _)| param.bytes).fold(0, u64::max);
        let address = memory.alloc(extent.max(1))?;
        if pointing().any(|(param, _)| !matches!(param.access, Access::Write | Access::Scratch)) {
            memory.write(address, &buffers[index][..extent as usize])?;
        }
        placed.insert(index, address);
    }
    Ok(arguments.iter().map(|index| placed[index]).collect())
}

/// Every parameter has a buffer of at least its extent.
fn check_buffers(
    kernel: &str,
    params: &[Param],
    buffers: &[&mut [u8]],
    arguments: &[usize],
) -> Result<(), InterpreterError> {
    if arguments.len() > params.len() {
        let (kernel, params, arguments) = (kernel.to_owned(), params.len(), arguments.len());
        return Err(InterpreterError::Arguments { kernel, params, arguments });
    }
    for (i, param) in params.iter().enumerate() {
        let bytes = arguments.get(i).and_then(|&index| buffers.get(index)).map(|buffer| buffer.len() as u64);
        if bytes.is_none_or(|bytes| bytes < param.bytes) {
            let (kernel, extent) = (kernel.to_owned(), param.bytes);
            return Err(InterpreterError::Buffer { kernel, param: param.name, extent, bytes });
        }
    }
    Ok(())
}
