//! The C library, as a program that knows nothing of it loads it. Its driver is configured by the environment, once
//! for a process, so each of these runs in a process of its own.

use std::path::PathBuf;
use std::process::Command;

use gpu_driver::sys::CUresult;
use gpu_driver::{DeviceBuffer, Driver, KernelArgs, LaunchConfig, Module, Stream};
use gpu_driver_sim::{built_library, install};

pub const CHILD: &str = "GPU_DRIVER_SIM_TEST_CHILD";

/// Runs a test of this file again in a process with these variables.
pub fn in_process(test: &str, variables: &[(&str, &str)], library: &PathBuf) -> String {
    let mut command = Command::new(std::env::current_exe().expect("the path of this test"));
    command.args(["--exact", test, "--nocapture"]).env(CHILD, library).envs(variables.iter().copied());
    let output = command.output().expect("a second process");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{text}\n{told}");
    text
}

pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

pub fn installed() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let built = built_library().expect("cargo builds the C library for this test");
    let path = install(&built, folder.path()).unwrap();
    assert_eq!(path, folder.path().join("libcuda.so.1"));
    (folder, path)
}

fn child_driver() -> Driver {
    // SAFETY: it is this crate's library, which the parent has built.
    unsafe { Driver::load_from(std::env::var_os(CHILD).expect("a path")) }.expect("the library")
}

#[test]
fn a_program_runs_on_the_library() {
    if !is_child() {
        let (_folder, path) = installed();
        let variables = [
            ("WARPSMITH_SIM_TARGET", "sm_80"),
            ("WARPSMITH_SIM_MEMORY", "1G"),
            ("WARPSMITH_SIM_REPORT", "1"),
        ];
        let told = in_process("library::a_program_runs_on_the_library", &variables, &path);
        assert!(told.contains("leak: stream"), "{told}");
        return;
    }
    let driver = child_driver();
    assert_eq!(driver.version().unwrap().to_string(), "13.2");
    let context = driver.context(0).unwrap();
    assert_eq!(context.limits().compute_capability.sm(), 80);
    assert_eq!(context.memory_info().unwrap().total, 1 << 30);
    assert_eq!(context.device().name().unwrap(), "NVIDIA A100-SXM4-80GB (simulated)");
    let stream = Stream::new(&context).unwrap();
    let data = DeviceBuffer::from_slice(&stream, &[1u32, 2, 3, 4]).unwrap();
    let triple = Module::from_ptx(&context, crate::support::KERNELS).unwrap().function("triple").unwrap();
    // SAFETY: the kernel touches four words of the buffer, which outlives the wait.
    unsafe { triple.launch(&stream, &LaunchConfig::new(1, 4), &KernelArgs::new().with(&data)) }.unwrap();
    assert_eq!(stream.read_to_vec(&data.as_slice()).unwrap(), [3, 6, 9, 12]);
    let mut forgotten = gpu_driver::sys::CUstream::NULL;
    // SAFETY: the result goes to a local; the context is current.
    let made = unsafe { (driver.table().stream_create_with_priority)(&mut forgotten, 0, 0) };
    assert_eq!(made, CUresult::SUCCESS);
}

#[test]
fn the_environment_orders_faults() {
    if !is_child() {
        let (_folder, path) = installed();
        let variables = [("WARPSMITH_SIM_FAULT", "cuMemAlloc:2=CUDA_ERROR_OUT_OF_MEMORY")];
        in_process("library::the_environment_orders_faults", &variables, &path);
        return;
    }
    let context = child_driver().context(0).unwrap();
    let failed = (0..3).map(|_| DeviceBuffer::<u8>::uninit(&context, 16).is_err()).collect::<Vec<_>>();
    assert_eq!(failed, [false, true, false]);
}

/// All threads of a block write a word: a race, which stops no GPU.
const RACE: &str = "
.version 7.0
.target sm_75
.address_size 64
.visible .entry race(.param .u64 p)
{
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    cvta.to.global.u64 %rd2, %rd1;
    st.global.u32 [%rd2], 7;
    ret;
}
";

#[test]
fn findings_fail_launches_or_are_reported_or_not_looked_for() {
    if !is_child() {
        let (_folder, path) = installed();
        let test = "library::findings_fail_launches_or_are_reported_or_not_looked_for";
        for (sanitize, fails, tells) in [("all", "1", true), ("report", "0", true), ("none", "0", false)] {
            let variables =
                [("WARPSMITH_SIM_SANITIZE", sanitize), ("WARPSMITH_SIM_REPORT", "1"), ("EXPECTED", fails)];
            let told = in_process(test, &variables, &path);
            assert_eq!(told.contains("finding: race"), tells, "{sanitize}: {told}");
        }
        return;
    }
    let context = child_driver().context(0).unwrap();
    let stream = Stream::new(&context).unwrap();
    let data = DeviceBuffer::from_slice(&stream, &[1u32]).unwrap();
    let race = Module::from_ptx(&context, RACE).unwrap().function("race").unwrap();
    // SAFETY: the kernel touches one word of the buffer, which outlives the wait.
    unsafe { race.launch(&stream, &LaunchConfig::new(1, 64), &KernelArgs::new().with(&data)) }.unwrap();
    let read = stream.read_to_vec(&data.as_slice());
    assert_eq!(read.is_err(), std::env::var("EXPECTED").is_ok_and(|expected| expected == "1"), "{read:?}");
}

#[test]
fn an_environment_that_is_not_understood_is_no_driver() {
    if !is_child() {
        let (_folder, path) = installed();
        let variables = [("WARPSMITH_SIM_SEED", "seven")];
        let test = "library::an_environment_that_is_not_understood_is_no_driver";
        let told = in_process(test, &variables, &path);
        assert!(told.contains("WARPSMITH_SIM_SEED is \"seven\""), "{told}");
        return;
    }
    assert!(child_driver().version().is_err());
}

/// Symbols as `dlsym` finds them, without `cuGetProcAddress`.
#[test]
fn symbols_are_exported_and_what_is_missing_says_so() {
    if !is_child() {
        let (_folder, path) = installed();
        in_process("library::symbols_are_exported_and_what_is_missing_says_so", &[], &path);
        return;
    }
    // SAFETY: loading the library runs no initialiser.
    let library = unsafe { libloading::Library::new(std::env::var_os(CHILD).expect("a path")) }.unwrap();
    for entry in gpu_driver::sys::ENTRIES {
        // SAFETY: only the address is taken.
        let symbol = unsafe { library.get::<*const ()>(entry.symbol) };
        assert!(symbol.is_ok(), "{entry:?}");
    }
    type NoArguments = unsafe extern "C" fn() -> CUresult;
    // Compilers look for the tables of the last one without asking whether it is there.
    for symbol in [c"cuArrayCreate_v2", c"cuGetExportTable"] {
        // SAFETY: the entry ignores its arguments.
        let absent = unsafe { library.get::<NoArguments>(symbol) }.unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { absent() }, CUresult::ERROR_NOT_SUPPORTED);
    }
    // SAFETY: only the address is asked for.
    assert!(unsafe { library.get::<NoArguments>(c"cuGraphicsUnregisterResource") }.is_err());
}
