//! `cargo xtask ptx-dump`: shows what a kernel became.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kernels::Kernel;
use kernels::cases::{Interpreter, PtxRunner};
use kernels::random::Random;
use ptx_builder::Target;
use ptx_builder::interp::{Options, Sanitize};
use tensor_formats::ElementType;

use crate::error::{Error, Result};
use crate::{ptx_verify, tools};

#[derive(clap::Args)]
pub struct Args {
    /// Kernel to print; `all` for those of the catalogue that the target can run; left out, the catalogue is listed.
    kernel: Option<String>,
    /// Target, for example sm_90a.
    #[arg(long, default_value = "sm_90")]
    target: Target,
    /// Write one file a kernel into this folder instead of printing.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Machine code as well: ptxas and nvdisasm must be found.
    #[arg(long)]
    sass: bool,
    /// Registers, spills and cost: ptxas must be found.
    #[arg(long)]
    stats: bool,
    /// What one launch does, on the interpreter: instructions, sectors, bank conflicts, divergence. Inputs are noise,
    /// and zeros where the kernel takes integers.
    #[arg(long)]
    profile: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let catalogue = kernels::catalogue();
    let Some(wanted) = &args.kernel else {
        for kernel in &catalogue {
            println!("{}", kernel.name());
        }
        return Ok(());
    };
    let all = wanted == "all";
    let chosen: Vec<_> = catalogue
        .iter()
        .filter(|kernel| if all { kernel.runs_on(args.target) } else { kernel.name() == *wanted })
        .collect();
    if chosen.is_empty() {
        return Err(Error::Message(no_such_kernel(wanted, &catalogue)));
    }
    for kernel in chosen {
        let text = describe(kernel.as_ref(), args)?;
        match &args.out {
            None => print!("{text}"),
            Some(folder) => {
                fs::create_dir_all(folder).map_err(Error::io(folder))?;
                let file = folder.join(format!("{}.{}.ptx", kernel.name(), args.target));
                fs::write(&file, text).map_err(Error::io(&file))?;
            }
        }
    }
    Ok(())
}

fn no_such_kernel(wanted: &str, catalogue: &[Box<dyn Kernel>]) -> String {
    let close: Vec<_> =
        catalogue.iter().map(|kernel| kernel.name()).filter(|name| name.contains(wanted)).collect();
    match close.as_slice() {
        [] => format!("no kernel is called {wanted:?}: `cargo xtask ptx-dump` lists them"),
        close => format!("no kernel is called {wanted:?}; names that contain it: {}", close.join(", ")),
    }
}

/// The PTX of a kernel, followed, as comments, by what was asked for besides.
fn describe(kernel: &dyn Kernel, args: &Args) -> Result<String> {
    let mut text = ptx_builder::print(&kernel.emit(args.target)?);
    if args.stats {
        text += &stats(kernel, args.target)?;
    }
    if args.profile {
        for line in profile(kernel, args.target)?.lines() {
            let _ = writeln!(text, "// {line}");
        }
    }
    if args.sass {
        for line in sass(kernel, args.target)?.lines() {
            let _ = writeln!(text, "// {line}");
        }
    }
    Ok(text)
}

fn profile(kernel: &dyn Kernel, target: Target) -> Result<String> {
    let mut random = Random::new(1);
    let params = kernel.params();
    let mut buffers: Vec<Vec<u8>> = params
        .iter()
        .map(|param| {
            let elements = (param.bytes / 4) as usize;
            let words = match param.element {
                ElementType::U32 => vec![0.0; elements],
                _ => random.f32s(elements + 1),
            };
            words.iter().flat_map(|word| word.to_le_bytes()).take(param.bytes as usize).collect()
        })
        .collect();
    let options = Options { sanitize: Sanitize::NONE, metrics: true, ..Options::default() };
    let mut interpreter = Interpreter::with_options(target, options);
    let mut views: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    let arguments: Vec<usize> = (0..params.len()).collect();
    interpreter.run(kernel, &mut views, &arguments).map_err(|e| Error::Message(e.to_string()))?;
    let metrics = interpreter.last().and_then(|report| report.metrics.as_ref());
    Ok(metrics.map(ToString::to_string).unwrap_or_default())
}

fn stats(kernel: &dyn Kernel, target: Target) -> Result<String> {
    let folder = tempfile::tempdir().map_err(Error::io("temporary folder"))?;
    let found = ptx_verify::assemble(&tools::cuda_tool("ptxas")?, folder.path(), kernel, target)?;
    let (cost, launch) = (kernel.cost(0), kernel.geometry());
    Ok(format!(
        "// registers {}, spills {} bytes, local memory {} bytes\n\
         // grid {:?}, block {:?}, dynamic shared memory {} bytes\n\
         // reads {} bytes, writes {} bytes, {} operations (empty KV cache)\n",
        found.registers,
        found.spill_bytes,
        found.stack_bytes,
        launch.grid,
        launch.block,
        launch.dynamic_shared,
        cost.bytes_read,
        cost.bytes_written,
        cost.operations
    ))
}

fn sass(kernel: &dyn Kernel, target: Target) -> Result<String> {
    let folder = tempfile::tempdir().map_err(Error::io("temporary folder"))?;
    let nvdisasm = tools::cuda_tool("nvdisasm")?;
    ptx_verify::assemble(&tools::cuda_tool("ptxas")?, folder.path(), kernel, target)?;
    let binary = folder.path().join(format!("{}.{target}.cubin", kernel.name()));
    let output = tools::capture(Command::new(nvdisasm).args(["--print-code", "--no-dataflow"]).arg(binary))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
