//! What can go wrong in a developer command.

use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{program} could not be started: {source}")]
    Start { program: String, source: std::io::Error },
    #[error("{program} failed ({status}){output}")]
    Failed { program: String, status: std::process::ExitStatus, output: String },
    #[error(
        "{0} was not found: put it on PATH, name it in WARPSMITH_CUDA_TOOLS, or install the Python packages that .ci/run installs"
    )]
    ToolMissing(&'static str),
    #[error(transparent)]
    Kernel(#[from] kernels::KernelError),
    #[error("{0}")]
    Message(String),
}

impl Error {
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }
}
