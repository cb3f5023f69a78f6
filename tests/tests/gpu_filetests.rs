//! The corpus of PTX files on a GPU: the expected outputs, and bit for bit what the interpreter gives.

#![allow(clippy::print_stdout)] // What was run, for whoever reads the test's output.

use gpu_driver::{
    Context, DeviceBuffer, DevicePtr, DeviceSlice, DeviceSliceMut, Driver, Function, KernelArgs,
    LaunchConfig, Module, Stream,
};
use ptx_builder::Target;
use ptx_filetests::{
    Elem, FILES, Header, Interpreter, Launched, Output, Request, Run, RunError, Runner, check,
};

/// Modules and memory of one device.
struct Gpu {
    context: Context,
    stream: Stream,
    module: Option<Module>,
    /// What was allocated since the module was loaded.
    buffers: Vec<DeviceBuffer<u8>>,
}

fn failed(error: impl std::fmt::Display) -> RunError {
    RunError(error.to_string())
}

impl Gpu {
    fn new() -> Result<Self, RunError> {
        let context = Driver::load().and_then(|driver| driver.context(0)).map_err(failed)?;
        let stream = Stream::new(&context).map_err(failed)?;
        Ok(Self { context, stream, module: None, buffers: Vec::new() })
    }

    fn runs(&self, target: Target) -> Result<bool, RunError> {
        let capability = self.context.device().compute_capability().map_err(failed)?;
        Ok(target.runs_on(capability.major, capability.minor))
    }

    fn module(&self) -> Result<&Module, RunError> {
        self.module.as_ref().ok_or_else(|| RunError("no module is loaded".into()))
    }

    fn function(&self, request: &Request<'_>) -> Result<Function, RunError> {
        let function = self.module()?.function(request.kernel).map_err(failed)?;
        if request.shared > 0 {
            function.allow_dynamic_shared(request.shared).map_err(failed)?;
        }
        Ok(function)
    }
}

/// One argument from its bytes.
fn push(args: &mut KernelArgs, bytes: &[u8]) -> Result<(), RunError> {
    macro_rules! of_size {
        ($($size:literal)*) => {
            match bytes.len() {
                $($size => {
                    let mut value = [0u8; $size];
                    value.copy_from_slice(bytes);
                    args.push_pod(&value);
                    return Ok(());
                })*
                _ => {}
            }
        };
    }
    of_size!(1 2 4 8 16 24 32);
    Err(RunError(format!("a parameter of {} bytes", bytes.len())))
}

impl Runner for Gpu {
    fn load(&mut self, text: &str) -> Result<(), RunError> {
        self.buffers.clear();
        self.module = Some(Module::from_ptx(&self.context, text).map_err(failed)?);
        Ok(())
    }

    fn alloc(&mut self, bytes: u64) -> Result<u64, RunError> {
        let len = usize::try_from(bytes).map_err(failed)?;
        let buffer = DeviceBuffer::uninit(&self.context, len).map_err(failed)?;
        let address = buffer.device_ptr().0;
        self.buffers.push(buffer);
        Ok(address)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), RunError> {
        // SAFETY: the checker writes whole allocations and variables of the loaded module, which live until the next
        // module is loaded, and nothing else uses them now.
        let mut region =
            unsafe { DeviceSliceMut::<u8>::from_raw(&self.context, DevicePtr(address), bytes.len()) };
        self.stream.copy_to_device(&mut region, bytes).map_err(failed)
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), RunError> {
        // SAFETY: as in `write`.
        let region = unsafe { DeviceSlice::<u8>::from_raw(&self.context, DevicePtr(address), bytes.len()) };
        self.stream.copy_to_host(bytes, &region).map_err(failed)
    }

    fn variable(&mut self, name: &str) -> Result<(u64, u64), RunError> {
        let (address, bytes) = self.module()?.global(name).map_err(failed)?;
        Ok((address.0, u64::try_from(bytes).map_err(failed)?))
    }

    fn launch(&mut self, request: &Request<'_>) -> Result<Launched, RunError> {
        let function = self.function(request)?;
        let dim = |[x, y, z]: [u32; 3]| (x, y, z);
        let mut config =
            LaunchConfig::new(dim(request.grid), dim(request.block)).with_dynamic_shared(request.shared);
        if request.cluster != [1; 3] {
            config = config.with_cluster(dim(request.cluster));
        }
        let mut args = KernelArgs::new();
        for bytes in request.params {
            push(&mut args, bytes)?;
        }
        // SAFETY: the file is of this repository: it says how large each buffer is that its kernels use, and the
        // interpreter has checked every access of this launch.
        unsafe { function.launch(&self.stream, &config, &args) }.map_err(failed)?;
        self.stream.synchronize().map_err(failed)?;
        Ok(Launched::default())
    }
}

/// Launches with a finding are for the interpreter: a device may do anything.
fn is_clean(runs: &[Run]) -> bool {
    runs.iter().all(|run| run.finds.is_empty() && run.fault.is_none())
}

/// The same bits, or two NaNs of double precision, whose payloads PTX leaves open.
fn same(a: &Output, b: &Output, i: usize) -> bool {
    let wide_nan = |output: &Output| output.data.elem == Elem::F64 && output.data.f64(i).is_nan();
    a.data.raw(i) == b.data.raw(i) || wide_nan(a) && wide_nan(b)
}

fn compare(interpreted: &[Output], computed: &[Output]) -> Result<(), String> {
    for (a, b) in interpreted.iter().zip(computed) {
        let differs = (0..a.data.len().max(b.data.len())).find(|&i| i >= b.data.len() || !same(a, b, i));
        if let Some(i) = differs.filter(|_| a.exact) {
            return Err(format!(
                "{}[{i}]: {} of the interpreter, {} of the device",
                a.name,
                a.data.show(i),
                b.data.show(i)
            ));
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn files_give_the_same_on_the_interpreter_and_on_the_device() {
    let mut gpu = Gpu::new().unwrap_or_else(|e| panic!("no CUDA device: {e}"));
    let (mut ran, mut failures) = (0, Vec::new());
    for file in FILES {
        let mut run = || {
            let Header::Runs(runs) = Header::parse(file.text).map_err(|e| e.to_string())? else {
                return Ok(false);
            };
            let module = ptx_builder::parse(file.text).map_err(|e| e.to_string())?;
            if !is_clean(&runs) || !gpu.runs(module.target).map_err(|e| e.to_string())? {
                return Ok(false);
            }
            let interpreted = check(file.text, &runs, &mut Interpreter::default())?;
            let computed = check(file.text, &runs, &mut gpu)?;
            compare(&interpreted, &computed).map(|()| true)
        };
        match run() {
            Ok(true) => ran += 1,
            Ok(false) => println!("{}: not for this device", file.name),
            Err(message) => failures.push(format!("{}: {message}", file.name)),
        }
    }
    println!("{ran} files");
    assert!(failures.is_empty(), "{} files fail:\n{}", failures.len(), failures.join("\n"));
    assert!(ran > 40, "only {ran} files ran");
}
