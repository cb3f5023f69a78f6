//! `cargo xtask gpu-test`: all GPU tests, serially, with a count of what passed, failed and was skipped.
//!
//! A GPU test lives in an integration test called `gpu_*.rs` and is marked `#[ignore]`, so that `cargo test` on a
//! machine without a GPU reports it as ignored instead of pretending that it passed. With `--sim` they run on the
//! software driver, which any machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gpu_driver::Driver;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::tools;

/// The software driver's variable for its number of multiprocessors.
const SIM_PROCESSORS: &str = "WARPSMITH_SIM_PROCESSORS";

const PROFILE: &str = "gpu-test";

#[derive(clap::Args)]
pub struct Args {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Build a self-contained folder with a script `run` for a CUDA machine without Rust, and run nothing.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["filter", "from_bundle", "wrap"])]
    bundle: Option<PathBuf>,
    /// Run the tests of a bundle (its script `run` passes this).
    #[arg(long, value_name = "DIR", hide = true)]
    from_bundle: Option<PathBuf>,
    /// A command to put before each test program, for example "compute-sanitizer --error-exitcode 1".
    #[arg(long, value_name = "COMMAND")]
    wrap: Option<String>,
    /// Run on the software driver instead of a GPU.
    #[arg(long, conflicts_with_all = ["bundle", "from_bundle"])]
    sim: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(folder) = &args.bundle {
        return bundle(folder);
    }
    let software_driver = if args.sim { Some(software_driver()?) } else { None };
    probe(software_driver.as_deref())?;
    let programs = match &args.from_bundle {
        Some(folder) => bundled_programs(folder)?,
        None => build(&["test", "--workspace", "--test", "gpu_*", "--no-run"])?,
    };
    let mut total = Counts::default();
    for program in &programs {
        total.add(run_program(program, args, software_driver.as_deref())?);
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    match total {
        Counts { failed: 1.., .. } => Err(Error::Message("GPU tests failed".into())),
        Counts { passed: 0, .. } => Err(Error::Message("no GPU test ran".into())),
        _ => Ok(()),
    }
}

/// Names the driver and the devices; without them there is nothing to test, which is a failure and not a pass.
fn probe(software_driver: Option<&Path>) -> Result<()> {
    let driver = match software_driver {
        // SAFETY: it is the one that was built for this run.
        Some(path) => unsafe { Driver::load_from(path) },
        None => Driver::load(),
    };
    let found = driver.and_then(|driver| {
        let count = driver.device_count()?;
        println!("CUDA driver {}, {count} device(s)", driver.version()?);
        for ordinal in 0..count {
            println!("  {}", driver.device(ordinal)?.name()?);
        }
        Ok(count)
    });
    match found {
        Ok(0) => Err(Error::Message("the driver sees no device".into())),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Message(format!("no usable CUDA driver: {error}"))),
    }
}

/// Builds the software driver and returns its library.
fn software_driver() -> Result<PathBuf> {
    let artifacts = artifacts(&["build", "--package", "gpu-driver-sim", "--lib"])?;
    let is_library = |file: &PathBuf| file.extension().is_some_and(|e| e == std::env::consts::DLL_EXTENSION);
    let library = artifacts
        .into_iter()
        .filter(|artifact| artifact.target.as_ref().is_some_and(|target| target.name == "gpu_driver_sim"))
        .flat_map(|artifact| artifact.filenames)
        .find(is_library);
    library.ok_or_else(|| Error::Message("cargo built no library of the software driver".into()))
}

#[derive(Deserialize)]
struct Artifact {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    executable: Option<PathBuf>,
    target: Option<ArtifactTarget>,
}

#[derive(Deserialize)]
struct ArtifactTarget {
    name: String,
}

/// A built program and the name of its cargo target.
struct Program {
    name: String,
    path: PathBuf,
}

/// Builds with cargo and returns what it says about what it made.
fn artifacts(arguments: &[&str]) -> Result<Vec<Artifact>> {
    let mut cargo = tools::cargo();
    cargo.args(arguments).args(["--profile", PROFILE, "--message-format", "json-render-diagnostics"]);
    let output = tools::capture(&mut cargo)?;
    let mut artifacts: Vec<Artifact> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        artifacts.push(
            serde_json::from_str(line)
                .map_err(|error| Error::Message(format!("cargo printed an unexpected message: {error}")))?,
        );
    }
    artifacts.retain(|artifact| artifact.reason == "compiler-artifact");
    Ok(artifacts)
}

/// Builds with cargo and returns the executables that it made.
fn build(arguments: &[&str]) -> Result<Vec<Program>> {
    let programs: Vec<Program> = artifacts(arguments)?
        .into_iter()
        .filter_map(|artifact| Some(Program { name: artifact.target?.name, path: artifact.executable? }))
        .collect();
    if programs.is_empty() {
        return Err(Error::Message("cargo built no program".into()));
    }
    Ok(programs)
}

/// Makes the folder that a CUDA machine without Rust needs: test programs, their data, the `warpsmith` program, this
/// program, and a script that runs it all.
fn bundle(folder: &Path) -> Result<()> {
    let create = |path: &Path| fs::create_dir_all(path).map_err(Error::io(path));
    let copy = |from: &Path, to: PathBuf| fs::copy(from, &to).map(drop).map_err(Error::io(to));
    let (tests, bin, data) = (folder.join("tests"), folder.join("bin"), folder.join("data"));
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::io(folder))?;
    }
    for path in [&tests, &bin] {
        create(path)?;
    }
    for program in build(&["test", "--workspace", "--test", "gpu_*", "--no-run"])? {
        if program.name.starts_with("gpu_") {
            copy(&program.path, tests.join(&program.name))?;
        }
    }
    for program in build(&["build", "--package", "xtask", "--package", "runtime", "--bins"])? {
        copy(&program.path, bin.join(&program.name))?;
    }
    copy_folder(&tools::workspace_root().join("tests/data"), &data)?;
    let script = folder.join("run");
    let text = "#!/bin/sh\n# Runs the GPU tests of this folder; arguments are those of `cargo xtask gpu-test`.\n\
                here=$(cd \"$(dirname \"$0\")\" && pwd)\n\
                exec \"$here/bin/xtask\" gpu-test --from-bundle \"$here\" \"$@\"\n";
    fs::write(&script, text).map_err(Error::io(&script))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(Error::io(&script))?;
    }
    println!("bundle: {} (start it with {})", folder.display(), script.display());
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io(to))?;
    for entry in fs::read_dir(from).map_err(Error::io(from))? {
        let source = entry.map_err(Error::io(from))?.path();
        let target = to.join(source.file_name().unwrap_or_default());
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(Error::io(&target))?;
        }
    }
    Ok(())
}

fn bundled_programs(folder: &Path) -> Result<Vec<Program>> {
    let tests = folder.join("tests");
    let mut programs = Vec::new();
    for entry in fs::read_dir(&tests).map_err(Error::io(&tests))? {
        let path = entry.map_err(Error::io(&tests))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        programs.push(Program { name, path });
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

fn run_program(program: &Program, args: &Args, software_driver: Option<&Path>) -> Result<Counts> {
    println!("== {}", program.name);
    let mut command = match args.wrap.as_deref().map(|wrap| wrap.split_whitespace().collect::<Vec<_>>()) {
        Some(words) if !words.is_empty() => {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg(&program.path);
            command
        }
        _ => Command::new(&program.path),
    };
    command.args(["--ignored", "--test-threads=1"]).args(&args.filter);
    if let Some(library) = software_driver {
        command.env("WARPSMITH_CUDA_LIBRARY", library);
        // Every block of a projection prepares the activations anew, which takes the interpreter long.
        if std::env::var_os(SIM_PROCESSORS).is_none() {
            command.env(SIM_PROCESSORS, "8");
        }
    }
    if let Some(folder) = &args.from_bundle
        && std::env::var_os("WARPSMITH_TEST_DATA").is_none()
    {
        command.env("WARPSMITH_TEST_DATA", folder.join("data"));
    }
    let output = command
        .output()
        .map_err(|source| Error::Start { program: program.path.display().to_string(), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let mut counts = summary(&text).unwrap_or_default();
    if !output.status.success() && counts.failed == 0 {
        // It crashed, or the wrapping command found something: the tests that passed do not make up for that.
        println!("{} ended with {}", program.name, output.status);
        counts.failed += 1;
    }
    Ok(counts)
}

/// Reads the closing line of a Rust test program.
fn summary(output: &str) -> Option<Counts> {
    let line = output.lines().rev().find(|line| line.starts_with("test result:"))?;
    let count = |what: &str| -> Option<u32> {
        let end = line.find(what)?;
        line[..end].trim_end().rsplit(' ').next()?.parse().ok()
    };
    Some(Counts { passed: count(" passed")?, failed: count(" failed")?, skipped: count(" filtered out")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_program_is_read() {
        let output = "running 5 tests\n\ntest result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.1s\n";
        assert_eq!(summary(output), Some(Counts { passed: 3, failed: 2, skipped: 7 }));
        assert_eq!(summary("Segmentation fault"), None);
    }
}
