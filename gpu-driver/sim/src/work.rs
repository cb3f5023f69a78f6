//! What can be queued, and how it is executed.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use gpu_driver::sys::{CUdeviceptr, CUresult, CUstream};
use ptx_builder::Space;
use ptx_builder::interp::{
    self, Finding, FindingKind, Launch, LaunchId, Memory, MemoryError, Metrics, Options,
};

use crate::code::Code;
use crate::launched::{Conditions, Loop, unknown};

/// One queued operation.
#[derive(Clone)]
pub(crate) enum Work {
    /// An event, a wait, the start or end of a graph, an empty node.
    Nothing,
    Kernel(KernelWork),
    Copy(Copy),
    Fill(Fill),
    /// A function of the program.
    Host(HostFunction),
    /// The end of a stream-ordered allocation.
    Free(CUdeviceptr),
    /// A look at the condition of a loop.
    While(Loop),
}

/// A kernel with everything that its launch said.
#[derive(Clone)]
pub(crate) struct KernelWork {
    /// Handle of the function, for updates of graphs.
    pub function: crate::handle::Id,
    pub code: Arc<Code>,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    pub dynamic_shared: u32,
    /// Its blocks may wait for each other.
    pub cooperative: bool,
    pub args: Arc<Vec<Vec<u8>>>,
    /// Where they are, for programs that read them back.
    pub pointers: Arc<[usize]>,
    /// Those of the launch of a graph that it is part of, once it is queued.
    pub conditions: Option<Arc<Conditions>>,
}

/// One end of a copy.
#[derive(Clone)]
pub(crate) enum Place {
    Device(CUdeviceptr),
    /// Host memory, accessed when the copy runs.
    Host(usize),
    /// Bytes that were taken from pageable memory when the copy was queued.
    Staged(Arc<[u8]>),
}

/// A copy of `depth` slices of `height` rows of `width` bytes.
#[derive(Clone)]
pub(crate) struct Copy {
    pub dst: Place,
    pub src: Place,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub dst_pitch: usize,
    pub src_pitch: usize,
    pub dst_slice: usize,
    pub src_slice: usize,
}

/// A fill of `height` rows of `width` elements.
#[derive(Clone, Copy)]
pub(crate) struct Fill {
    pub dst: CUdeviceptr,
    pub value: u32,
    pub element: u32,
    pub width: usize,
    pub height: usize,
    pub pitch: usize,
}

/// A host function that is told of its stream and of what came of the work before it.
pub(crate) type StatusFunction = extern "C" fn(CUstream, CUresult, *mut c_void);

/// What a host function takes.
#[derive(Clone, Copy)]
pub(crate) enum HostCall {
    Plain(extern "C" fn(*mut c_void)),
    WithStatus(StatusFunction, CUstream),
}

/// A host function with its argument.
#[derive(Clone, Copy)]
pub(crate) struct HostFunction {
    pub function: HostCall,
    /// An address that only the function understands.
    pub data: usize,
}

impl HostFunction {
    /// Calls it. Calls of the driver from within are refused.
    pub(crate) fn call(self) {
        let data = std::ptr::with_exposed_provenance_mut(self.data);
        crate::call::as_host_function(|| match self.function {
            HostCall::Plain(function) => function(data),
            // After a failure nothing runs any more.
            HostCall::WithStatus(function, stream) => function(stream, CUresult::SUCCESS, data),
        });
    }
}

impl Copy {
    /// One row.
    pub(crate) const fn linear(dst: Place, src: Place, bytes: usize) -> Self {
        Self {
            dst,
            src,
            width: bytes,
            height: 1,
            depth: 1,
            dst_pitch: bytes,
            src_pitch: bytes,
            dst_slice: bytes,
            src_slice: bytes,
        }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.width as u64 * self.height as u64 * self.depth as u64
    }

    /// Offsets of each row at the destination and at the source.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let (dst_pitch, src_pitch, dst_slice, src_slice) =
            (self.dst_pitch, self.src_pitch, self.dst_slice, self.src_slice);
        let height = self.height;
        (0..self.depth).flat_map(move |z| {
            (0..height).map(move |y| (z * dst_slice + y * dst_pitch, z * src_slice + y * src_pitch))
        })
    }
}

impl Fill {
    pub(crate) const fn bytes(&self) -> u64 {
        self.width as u64 * self.height as u64 * self.element as u64
    }
}

/// What executes work: a device's memory, and how launches are watched.
pub(crate) struct Machine {
    pub memory: Memory,
    pub options: Options,
    pub fail_on_findings: bool,
    /// Warp instructions per microsecond.
    pub instructions_per_us: u64,
    pub slow_copies: u64,
}

/// What came of an operation.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Simulated duration.
    pub duration_ns: u64,
    /// Why it failed, and the code that its context has from now on.
    pub failure: Option<(CUresult, String)>,
    pub findings: Vec<Finding>,
    pub grid: Option<LaunchId>,
    pub instructions: u64,
    pub metrics: Option<Metrics>,
    pub bytes_copied: u64,
    pub printed: String,
    /// Values of conditions that the kernel set, in order.
    pub conditionals: Vec<(u64, u32)>,
}

/// Nanoseconds between the start of a kernel and its first instruction, and from its last to its end.
const KERNEL_NS: u64 = 2_000;
/// Nanoseconds that any transfer takes, and a look at a condition.
const TRANSFER_NS: u64 = 1_000;
/// Bytes per nanosecond between host and device.
const LINK: u64 = 25;
/// Bytes per nanosecond within the device.
const DEVICE: u64 = 1_000;

impl Work {
    pub(crate) const fn is_transfer(&self) -> bool {
        matches!(self, Self::Copy(_) | Self::Fill(_))
    }

    /// Executes it. Nothing is locked meanwhile.
    pub(crate) fn execute(self, machine: &Machine) -> Outcome {
        match self {
            Self::Nothing => Outcome::default(),
            // The look itself needs the queue.
            Self::While(_) => Outcome { duration_ns: TRANSFER_NS, ..Outcome::default() },
            Self::Kernel(kernel) => kernel.execute(machine),
            Self::Copy(copy) => copy.execute(machine),
            Self::Fill(fill) => fill.execute(machine),
            Self::Host(host) => {
                host.call();
                Outcome { duration_ns: TRANSFER_NS, ..Outcome::default() }
            }
            Self::Free(address) => {
                let freed = machine.memory.free(address);
                Outcome {
                    failure: freed.err().map(|e| (CUresult::ERROR_ILLEGAL_ADDRESS, e.to_string())),
                    ..Outcome::default()
                }
            }
        }
    }
}

impl KernelWork {
    /// Sets conditions as the kernel asked for; else why its context is lost.
    pub(crate) fn set(&self, values: &[(u64, u32)]) -> Result<(), (CUresult, String)> {
        match (&self.conditions, values.first()) {
            (_, None) => Ok(()),
            (Some(conditions), Some(_)) => conditions.set(values),
            (None, Some((handle, _))) => Err(unknown(*handle, "the kernel is not part of a graph")),
        }
    }

    fn execute(self, machine: &Machine) -> Outcome {
        let launch = Launch {
            kernel: self.code.kernel(),
            grid: self.grid,
            block: self.block,
            cluster: self.cluster,
            dynamic_shared: self.dynamic_shared,
            params: &self.args,
        };
        match interp::launch(&machine.memory, &launch, &machine.options) {
            Ok(report) => {
                let fault = report.fault.as_ref().map(|fault| (code_of(fault), fault.to_string()));
                let found = report.findings.first().filter(|_| machine.fail_on_findings);
                let failure = fault
                    .or_else(|| found.map(|finding| (CUresult::ERROR_LAUNCH_FAILED, finding.to_string())));
                let mut findings = report.findings;
                if let Some(fault) = report.fault
                    && !findings.contains(&fault)
                {
                    findings.push(fault);
                }
                Outcome {
                    duration_ns: KERNEL_NS + report.instructions * 1_000 / machine.instructions_per_us.max(1),
                    failure,
                    findings,
                    grid: Some(report.id),
                    instructions: report.instructions,
                    metrics: report.metrics,
                    printed: report.printed,
                    conditionals: report.conditionals,
                    ..Outcome::default()
                }
            }
            // Geometry and parameters were checked when it was queued, so this is something that the interpreter
            // does not execute; there is no code for it but the general one.
            Err(error) => Outcome {
                failure: Some((CUresult::ERROR_LAUNCH_FAILED, error.to_string())),
                ..Outcome::default()
            },
        }
    }
}

/// What a device reports for a finding that stopped a kernel.
fn code_of(fault: &Finding) -> CUresult {
    match fault.kind {
        // Bounds of shared and local memory are checked by other means than translation of addresses.
        FindingKind::OutOfBounds
            if matches!(fault.space, Some(Space::Shared | Space::SharedCluster | Space::Local)) =>
        {
            CUresult::ERROR_LAUNCH_FAILED
        }
        FindingKind::OutOfBounds | FindingKind::UseAfterFree => CUresult::ERROR_ILLEGAL_ADDRESS,
        FindingKind::Misaligned => CUresult::ERROR_MISALIGNED_ADDRESS,
        FindingKind::Deadlock | FindingKind::EndlessLoop => CUresult::ERROR_LAUNCH_TIMEOUT,
        _ => CUresult::ERROR_LAUNCH_FAILED,
    }
}

impl Copy {
    fn execute(&self, machine: &Machine) -> Outcome {
        let bytes = self.bytes();
        let on_device = matches!((&self.dst, &self.src), (Place::Device(_), Place::Device(_)));
        let rate = if on_device { DEVICE } else { LINK };
        let failed = self.rows().find_map(|(dst, src)| self.row(&machine.memory, dst, src).err());
        Outcome {
            duration_ns: (TRANSFER_NS + bytes / rate) * machine.slow_copies,
            failure: failed.map(|error| (error.code(), format!("a copy of {bytes} bytes: {error}"))),
            bytes_copied: bytes,
            ..Outcome::default()
        }
    }

    fn row(&self, memory: &Memory, dst: usize, src: usize) -> Result<(), RowError> {
        let n = self.width;
        match (&self.dst, &self.src) {
            (Place::Device(to), Place::Device(from)) => {
                Ok(memory.copy(to + dst as u64, from + src as u64, n as u64)?)
            }
            (Place::Device(to), Place::Host(from)) => {
                // SAFETY: whoever queued the copy passed memory of that size which stays valid until the copy is done:
                // that is what the driver API asks of an asynchronous copy.
                let bytes = unsafe { host_bytes(from + src, n) };
                Ok(memory.write(to + dst as u64, bytes)?)
            }
            (Place::Device(to), Place::Staged(bytes)) => {
                Ok(memory.write(to + dst as u64, staged(bytes, src, n)?)?)
            }
            (Place::Host(to), Place::Device(from)) => {
                // SAFETY: as above; nothing else may access the destination meanwhile.
                let bytes = unsafe { host_bytes_mut(to + dst, n) };
                Ok(memory.read(from + src as u64, bytes)?)
            }
            (Place::Host(to), Place::Host(from)) => {
                let (to, from): (*mut u8, *const u8) = (
                    std::ptr::with_exposed_provenance_mut(to + dst),
                    std::ptr::with_exposed_provenance(from + src),
                );
                // SAFETY: as above; `copy` allows the ranges to overlap.
                unsafe { std::ptr::copy(from, to, n) };
                Ok(())
            }
            (Place::Host(to), Place::Staged(bytes)) => {
                let row = staged(bytes, src, n)?;
                // SAFETY: as above.
                unsafe { host_bytes_mut(to + dst, n) }.copy_from_slice(row);
                Ok(())
            }
            (Place::Staged(_), _) => Err(RowError::ToStaged),
        }
    }
}

/// Why a row was not copied. Only the first is a mistake of the program that queued the copy.
#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("of the {held} bytes that were staged, {n} from {from} on are to be copied")]
    BeyondStaged { held: usize, from: usize, n: usize },
    #[error("staged bytes are only copied from")]
    ToStaged,
}

impl RowError {
    fn code(&self) -> CUresult {
        match self {
            Self::Memory(_) => CUresult::ERROR_ILLEGAL_ADDRESS,
            Self::BeyondStaged { .. } | Self::ToStaged => CUresult::ERROR_UNKNOWN,
        }
    }
}

/// `n` staged bytes.
fn staged(bytes: &[u8], from: usize, n: usize) -> Result<&[u8], RowError> {
    let end = from.checked_add(n);
    let row = end.and_then(|end| bytes.get(from..end));
    row.ok_or(RowError::BeyondStaged { held: bytes.len(), from, n })
}

/// # Safety
///
/// `n` bytes at `address` must be readable and not written during the use of the slice.
unsafe fn host_bytes<'a>(address: usize, n: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(address), n) }
}

/// # Safety
///
/// `n` bytes at `address` must be writable and not used otherwise during the use of the slice.
unsafe fn host_bytes_mut<'a>(address: usize, n: usize) -> &'a mut [u8] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(address), n) }
}

impl Fill {
    fn execute(&self, machine: &Machine) -> Outcome {
        let value = self.value.to_le_bytes();
        let pattern = &value[..self.element as usize];
        let failed = (0..self.height).find_map(|row| {
            let at = self.dst + (row * self.pitch) as u64;
            machine.memory.fill(at, pattern, self.width as u64).err()
        });
        let bytes = self.bytes();
        Outcome {
            duration_ns: (TRANSFER_NS + bytes / DEVICE) * machine.slow_copies,
            failure: failed
                .map(|error| (CUresult::ERROR_ILLEGAL_ADDRESS, format!("a fill of {bytes} bytes: {error}"))),
            ..Outcome::default()
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Kernel(kernel) => write!(f, "kernel {}", kernel.code.name()),
            Self::Copy(copy) => write!(f, "copy of {} bytes", copy.bytes()),
            Self::Fill(fill) => write!(f, "fill of {} bytes", fill.bytes()),
            Self::Host(_) => f.write_str("host function"),
            Self::Free(address) => write!(f, "free {address:#x}"),
            Self::While(_) => f.write_str("while"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_bytes_are_all_there_or_an_error() {
        let bytes = [1, 2, 3, 4];
        assert!(matches!(staged(&bytes, 1, 3), Ok([2, 3, 4])));
        for (from, n) in [(1, 4), (5, 0), (usize::MAX, 2)] {
            let error = staged(&bytes, from, n).unwrap_err();
            assert!(matches!(error, RowError::BeyondStaged { held: 4, .. }), "{error}");
            assert_eq!(error.code(), CUresult::ERROR_UNKNOWN);
        }
    }
}
