//! Loading modules: what is refused, with which code and which log.

use gpu_driver::sys::CUresult;
use gpu_driver::{DriverError, JitError, JitOptions, Module};
use gpu_driver_sim::{SimConfig, Target};

use crate::support::{Gpu, KERNELS};

fn refused(gpu: &Gpu, ptx: &str) -> JitError {
    match Module::from_ptx(&gpu.context, ptx) {
        Err(DriverError::Jit(error)) => *error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_line_is_named_in_the_log() {
    let gpu = Gpu::new();
    let bad = KERNELS.replacen("mul.lo.u32 %r2, %r1, 3;", "mul.low.u32 %r2, %r1, 3;", 1);
    let line = bad.lines().position(|line| line.contains("mul.low")).unwrap() + 1;
    let error = refused(&gpu, &bad);
    assert_eq!(error.api().code(), CUresult::ERROR_INVALID_PTX);
    assert_eq!(error.line(), Some(line), "{error}");
    assert!(
        error.log().error.starts_with(&format!("ptxas application ptx input, line {line}; error")),
        "{error}"
    );
    assert!(error.excerpt().contains("mul.low"), "{error}");
    gpu.finish();
}

#[test]
fn what_does_not_verify_does_not_load() {
    let gpu = Gpu::new();
    // An address of 32 bits.
    let bad = KERNELS.replacen("st.global.u32 [%rd2], %r2;", "st.global.u32 [%r2], %r2;", 1);
    let error = refused(&gpu, &bad);
    assert_eq!(error.api().code(), CUresult::ERROR_INVALID_PTX);
    assert!(error.line().is_some_and(|line| (7..24).contains(&line)), "{error}");
    gpu.finish();
}

#[test]
fn younger_ptx_and_larger_targets_are_refused() {
    let gpu = Gpu::with(SimConfig { target: Target::SM_80, cuda_version: 12_040, ..SimConfig::default() });
    let newer = refused(&gpu, &KERNELS.replace(".version 8.0", ".version 8.5"));
    assert_eq!(newer.api().code(), CUresult::ERROR_UNSUPPORTED_PTX_VERSION);
    assert!(newer.log().error.contains("Unsupported .version 8.5; current version is '8.4'"), "{newer}");
    for target in ["sm_90", "sm_86", "sm_90a", "sm_103a"] {
        let error = refused(&gpu, &KERNELS.replace("sm_75", target));
        assert_eq!(error.api().code(), CUresult::ERROR_NO_BINARY_FOR_GPU, "{error}");
        assert_eq!(error.line(), Some(2), "{error}");
    }
    Module::from_ptx(&gpu.context, &KERNELS.replace("sm_75", "sm_80")).unwrap();
    gpu.finish();
}

#[test]
fn images_that_are_not_ptx_are_refused() {
    let gpu = Gpu::new();
    gpu.context.make_current().unwrap();
    let load = gpu.driver.table().module_load_data_ex;
    let mut module = gpu_driver::sys::CUmodule::NULL;
    let fat = 0xba55_ed50_u32.to_le_bytes();
    for (image, expected) in [
        (&b"\x7fELF\x02\x01\x01"[..], CUresult::ERROR_NO_BINARY_FOR_GPU),
        (&fat[..], CUresult::ERROR_NO_BINARY_FOR_GPU),
        (&b"no PTX at all\0"[..], CUresult::ERROR_INVALID_IMAGE),
        (&b"\0"[..], CUresult::ERROR_INVALID_IMAGE),
    ] {
        let null = std::ptr::null_mut();
        // SAFETY: the image is a binary one or ends with a NUL; there are no options; the result goes to a local.
        let code = unsafe { load(&mut module, image.as_ptr().cast(), 0, null, null.cast()) };
        assert_eq!(code, expected, "{image:?}");
    }
    gpu.finish();
}

#[test]
fn logs_are_cut_off_and_verbose_ones_name_the_kernels() {
    let gpu = Gpu::new();
    let options = JitOptions { verbose: true, ..JitOptions::default() };
    let module = Module::from_ptx_with(&gpu.context, KERNELS, &options).unwrap();
    assert!(
        module.log().info.contains("Compiling entry function 'triple' for 'sm_90'"),
        "{:?}",
        module.log()
    );
    assert!(module.log().wall_ms > 0.0 && module.log().error.is_empty());
    let short = JitOptions { log_bytes: 10, ..JitOptions::default() };
    let error = Module::from_ptx_with(&gpu.context, &KERNELS.replace("ret;", "rat;"), &short).unwrap_err();
    let DriverError::Jit(error) = error else { panic!("{error:?}") };
    assert_eq!(error.log().error, "ptxas app");
    drop(module);
    gpu.finish();
}

#[test]
fn names_are_found_or_not() {
    let gpu = Gpu::new();
    let module = Module::from_ptx(&gpu.context, KERNELS).unwrap();
    assert!(matches!(module.function("absent"), Err(DriverError::NoSuchName { .. })));
    let (a, b) = (module.function("add").unwrap(), module.function("add").unwrap());
    assert_eq!(a.handle(), b.handle());
    drop((a, b, module));
    gpu.finish();
}

/// Compilers write targets that are older than any device here, such as NVRTC where none is asked for.
#[test]
fn text_for_older_architectures_loads() {
    let gpu = Gpu::new();
    for (target, sm) in [("sm_30", 30), ("sm_52", 52), ("sm_61", 61), ("sm_70", 70), ("sm_90", 90)] {
        let module = Module::from_ptx(&gpu.context, &KERNELS.replace("sm_75", target)).unwrap();
        assert_eq!(module.function("triple").unwrap().attributes().ptx_target, sm, "{target}");
    }
    for target in ["sm_7", "sm_", "compute_52"] {
        let error = refused(&gpu, &KERNELS.replace("sm_75", target));
        assert_eq!(error.api().code(), CUresult::ERROR_INVALID_PTX, "{target}: {error}");
    }
    for target in ["sm_100f", "sm_120f"] {
        let error = refused(&gpu, &KERNELS.replace("sm_75", target));
        assert_eq!(error.api().code(), CUresult::ERROR_NO_BINARY_FOR_GPU, "{target}: {error}");
    }
    gpu.finish();
}
