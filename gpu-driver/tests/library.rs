//! Loading from a shared library: a small one is compiled here, with the exports of a driver of CUDA 12.1.

use gpu_driver::sys::ENTRIES;
use gpu_driver::{Driver, DriverError, LIBRARY_VARIABLE};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the library's functions return, to tell which of them was bound.
const BY_NAME: i32 = 3;
const BY_PROC_ADDRESS: i32 = 7;

/// Every export succeeds and does nothing, but for those that the tests look at. `cuGetProcAddress_v2` knows the base
/// name `cuDeviceGetCount` at its own version, and would answer for a function of CUDA 12.3 with an older one.
fn source(leave_out: &[&str]) -> String {
    let mut text = format!(
        r#"
use std::ffi::{{CStr, c_char, c_int, c_void}};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {{
    unsafe {{ *version = 12_010 }};
    0
}}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {{
    unsafe {{ *count = {BY_NAME} }};
    0
}}

unsafe extern "C" fn counts(count: *mut c_int) -> c_int {{
    unsafe {{ *count = {BY_PROC_ADDRESS} }};
    0
}}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetProcAddress_v2(
    symbol: *const c_char, pfn: *mut *mut c_void, version: c_int, flags: u64, status: *mut c_int,
) -> c_int {{
    let symbol = unsafe {{ CStr::from_ptr(symbol) }}.to_bytes();
    let known = symbol == b"cuDeviceGetCount" && version == 2000 && flags == 1
        || symbol == b"cuGraphAddDependencies" && version >= 12_030;
    unsafe {{
        *pfn = if known {{ counts as *mut c_void }} else {{ std::ptr::null_mut() }};
        *status = if known {{ 0 }} else {{ 1 }};
    }}
    0
}}
"#
    );
    let written = ["cuDriverGetVersion", "cuDeviceGetCount"];
    for entry in ENTRIES {
        let symbol = entry.symbol_name();
        if written.contains(&symbol) || leave_out.contains(&symbol) {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "#[unsafe(no_mangle)] pub extern \"C\" fn {symbol}() -> c_int {{ 0 }}");
    }
    text
}

fn build(folder: &Path, leave_out: &[&str]) -> PathBuf {
    let (from, to) = (folder.join("driver.rs"), folder.join("libdriver.so"));
    std::fs::write(&from, source(leave_out)).expect("a source file");
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "--crate-type", "cdylib", "-A", "warnings", "-C", "panic=abort", "-o"])
        .args([&to, &from])
        .output()
        .expect("a compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    to
}

#[test]
fn entries_come_from_proc_addresses_and_else_from_suffixed_exports() {
    let folder = tempfile::tempdir().expect("a folder");
    let newer = ["cuGraphAddDependencies_v2", "cuGraphGetEdges_v2", "cuFuncGetParamInfo"];
    let path = build(folder.path(), &newer);
    // SAFETY: the version and the count, which are all that is called, are written as a driver does.
    let driver = unsafe { Driver::load_from(&path) }.expect("a driver");
    assert_eq!(driver.source(), path.display().to_string());
    assert_eq!(driver.version().expect("a version").to_string(), "12.1");
    assert_eq!(driver.device_count().expect("a count"), BY_PROC_ADDRESS as u32);
    let table = driver.table();
    assert!(table.graph_add_kernel_node.is_some(), "cuGraphAddKernelNode_v2 is exported");
    assert!(table.graph_add_dependencies.is_some(), "the first version is exported");
    assert!(
        table.graph_add_dependencies_v2.is_none(),
        "an older function under the same base name must not stand in for one that the driver lacks"
    );

    let kept = driver.clone();
    drop((driver, folder));
    assert_eq!(kept.device_count().expect("a count"), BY_PROC_ADDRESS as u32, "the library stays loaded");
}

#[test]
fn a_library_without_a_required_entry_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = build(folder.path(), &["cuMemAlloc_v2", "cuGraphCreate"]);
    // SAFETY: as above.
    let error = unsafe { Driver::load_from(&path) }.expect_err("a driver");
    assert!(matches!(error, DriverError::IncompleteDriver { .. }));
    let wanted =
        format!("{} (CUDA 12.1) is not a usable CUDA driver: it lacks cuMemAlloc_v2", path.display());
    assert_eq!(error.to_string(), wanted);
}

/// The variable is read once per process, so this looks at it from a second one.
#[test]
fn the_environment_names_the_library_and_no_other_is_tried() {
    const CHILD: &str = "GPU_DRIVER_TEST_EXPECTS";
    if let Some(expected) = std::env::var_os(CHILD) {
        match Driver::load() {
            Ok(driver) => assert_eq!(driver.source(), expected.to_string_lossy()),
            Err(DriverError::NoDriver { tried }) => {
                assert_eq!(tried.len(), 1);
                assert_eq!(tried[0].0, expected.to_string_lossy());
                assert!(expected.to_string_lossy().contains("absent"));
            }
            Err(other) => panic!("{other}"),
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let present = build(folder.path(), &[]);
    for path in [present, folder.path().join("absent.so")] {
        let status = Command::new(std::env::current_exe().expect("the path of this test"))
            .args(["--exact", "the_environment_names_the_library_and_no_other_is_tried"])
            .env(LIBRARY_VARIABLE, &path)
            .env(CHILD, &path)
            .status()
            .expect("a second process");
        assert!(status.success(), "{}: {status}", path.display());
    }
}
