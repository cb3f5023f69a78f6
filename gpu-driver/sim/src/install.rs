//! The C library: where cargo puts it, and how it gets the name that programs look for.

use std::path::{Path, PathBuf};

use crate::error::{Result, SimError};

/// File name of the library as cargo builds it.
const BUILT: &str = if cfg!(windows) {
    "gpu_driver_sim.dll"
} else if cfg!(target_os = "macos") {
    "libgpu_driver_sim.dylib"
} else {
    "libgpu_driver_sim.so"
};

/// File names that programs look for.
const WANTED: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };

/// The C library that cargo built along with this program: in the folder of the executable, or one of the two above
/// it, where a test finds it next to itself. `None` if it is not there, as in a program that was installed.
pub fn built_library() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folders = program.ancestors().skip(1).take(3);
    folders
        .flat_map(|folder| [folder.join(BUILT), folder.join("deps").join(BUILT)])
        .find(|path| path.is_file())
}

/// Copies the C library into a folder under the names that programs look for (`libcuda.so.1` and `libcuda.so`;
/// `nvcuda.dll`), and answers the path of the first. With the folder in `LD_LIBRARY_PATH` programs find it instead of
/// the system's driver.
///
/// # Errors
///
/// [`SimError::Io`] with the file at fault.
pub fn install(library: &Path, folder: &Path) -> Result<PathBuf> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| SimError::Io { path, source }
    };
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    for name in WANTED {
        let target = folder.join(name);
        std::fs::copy(library, &target).map_err(io(&target))?;
    }
    Ok(folder.join(WANTED[0]))
}
