//! The workspace's root, and the external programs that commands call.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Result};

/// The folder of the workspace's `Cargo.toml`.
pub fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The cargo that runs this command, so that its toolchain is the one used throughout.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    command
}

/// Runs a command with inherited output; an exit status other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let program = describe(command);
    let status = command.status().map_err(|source| Error::Start { program: program.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Failed { program, status, output: String::new() }) }
}

/// Runs a command and returns its output; an exit status other than 0 is an error that carries it.
pub fn capture(command: &mut Command) -> Result<Output> {
    let program = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(output);
    }
    let text =
        format!(":\n{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed { program, status: output.status, output: text })
}

fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Finds a CUDA developer tool: `WARPSMITH_CUDA_TOOLS` (a folder), then `PATH`, then the Python packages.
pub fn cuda_tool(name: &'static str) -> Result<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let configured = env::var_os("WARPSMITH_CUDA_TOOLS").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    configured
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(python_packages())
        .map(|folder| folder.join(&file))
        .find(|candidate| candidate.is_file())
        .ok_or(Error::ToolMissing(name))
}

/// `nvidia/cu13/bin` of the site-packages folders of `python3`, where the `nvidia-cuda-*` packages put their tools.
fn python_packages() -> Vec<PathBuf> {
    let script =
        "import site,sysconfig; print('\\n'.join({sysconfig.get_path('purelib'), *site.getsitepackages()}))";
    let Ok(output) = Command::new("python3").args(["-c", script]).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| Path::new(line).join("nvidia/cu13/bin"))
        .collect()
}
