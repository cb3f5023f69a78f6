//! A foreign program on the software driver: cudarc's safe API loads `libcuda.so.1` and does not know what it is.
//!
//! The dynamic loader reads `LD_LIBRARY_PATH` when a process starts, so the programs are tests of this file that are
//! ignored, and that the others start in a process of their own.

#![cfg(target_os = "linux")]

use std::process::{Command, Output};

use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg, sys::CUresult};
use cudarc::nvrtc::Ptx;

/// `y[i] = a * x[i] + y[i]` for `i < n`.
const SAXPY: &str = r#"
.version 7.0
.target sm_75
.address_size 64

.visible .entry saxpy(
    .param .u64 saxpy_y,
    .param .u64 saxpy_x,
    .param .f32 saxpy_a,
    .param .u32 saxpy_n
)
{
    .reg .pred  %past;
    .reg .b32   %block, %threads, %thread, %i, %n;
    .reg .b64   %x, %y, %offset;
    .reg .f32   %a, %u, %v;

    mov.u32         %block, %ctaid.x;
    mov.u32         %threads, %ntid.x;
    mov.u32         %thread, %tid.x;
    mad.lo.s32      %i, %block, %threads, %thread;
    ld.param.u32    %n, [saxpy_n];
    setp.ge.u32     %past, %i, %n;
    @%past bra      END;
    ld.param.u64    %y, [saxpy_y];
    ld.param.u64    %x, [saxpy_x];
    ld.param.f32    %a, [saxpy_a];
    cvta.to.global.u64 %y, %y;
    cvta.to.global.u64 %x, %x;
    mul.wide.u32    %offset, %i, 4;
    add.s64         %x, %x, %offset;
    add.s64         %y, %y, %offset;
    ld.global.f32   %u, [%x];
    ld.global.f32   %v, [%y];
    fma.rn.f32      %v, %a, %u, %v;
    st.global.f32   [%y], %v;
END:
    ret;
}
"#;

/// Runs one of the programs below with the software driver in the place of the system's.
fn start(program: &str) -> Output {
    let library = gpu_driver_sim::built_library().expect("the library is built along with this test");
    let folder = tempfile::tempdir().unwrap();
    gpu_driver_sim::install(&library, folder.path()).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", program])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("WARPSMITH_SIM_REPORT", "1")
        .output()
        .unwrap()
}

#[test]
fn a_program_runs_unchanged() {
    let output = start("program");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    for bad in ["leak", "finding", "fault"] {
        assert!(!err.contains(bad), "{err}");
    }
}

#[test]
fn a_program_with_a_bug_is_told_where_it_is() {
    let output = start("program_with_a_bug");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    for word in ["saxpy", "ld.global.f32", "thread"] {
        assert!(err.contains(word), "{word}: {err}");
    }
}

#[test]
#[ignore = "is run by another test"]
fn program() {
    const N: usize = 1000;
    let context = CudaContext::new(0).unwrap();
    assert!(context.name().unwrap().ends_with("(simulated)"));
    let stream = context.new_stream().unwrap();
    let saxpy = context.load_module(Ptx::from_src(SAXPY)).unwrap().load_function("saxpy").unwrap();

    let host: Vec<f32> = (0..N).map(|i| i as f32).collect();
    let x = stream.clone_htod(&host).unwrap();
    let mut y = stream.alloc_zeros::<f32>(N).unwrap();
    let (a, n) = (0.5f32, N as u32);
    for _ in 0..3 {
        let mut launch = stream.launch_builder(&saxpy);
        launch.arg(&mut y).arg(&x).arg(&a).arg(&n);
        // SAFETY: the arguments are those of the kernel, which touches elements below `n`, of which both buffers have
        // as many.
        unsafe { launch.launch(LaunchConfig::for_num_elems(n)) }.unwrap();
    }
    let copy = stream.clone_dtod(&y).unwrap();
    let expected: Vec<f32> = host.iter().map(|x| 1.5 * x).collect();
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), expected);

    let mut part = [0f32; 10];
    stream.memcpy_dtoh(&y.slice(100..110), &mut part).unwrap();
    assert_eq!(part, expected[100..110]);
    stream.synchronize().unwrap();

    let wrong = context.load_module(Ptx::from_src(SAXPY.replace("fma.rn.f32", "fma.rn.f33")));
    assert_eq!(wrong.unwrap_err().0, CUresult::CUDA_ERROR_INVALID_PTX);
}

#[test]
#[ignore = "is run by another test"]
fn program_with_a_bug() {
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    let saxpy = context.load_module(Ptx::from_src(SAXPY)).unwrap().load_function("saxpy").unwrap();
    let x = stream.alloc_zeros::<f32>(100).unwrap();
    let mut y = stream.alloc_zeros::<f32>(101).unwrap();
    let (a, n) = (1f32, 101u32);
    let mut launch = stream.launch_builder(&saxpy);
    launch.arg(&mut y).arg(&x).arg(&a).arg(&n);
    // SAFETY: the driver checks every access. That the last one is outside of `x` is what this is about.
    unsafe { launch.launch(LaunchConfig::for_num_elems(n)) }.unwrap();
    let error = stream.synchronize().unwrap_err();
    assert_eq!(error.0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
}
