//! Modules and kernels.

use crate::{Fixture, PTX};
use gpu_driver::{DevicePtr, DriverError, ErrorKind, JitOptions, Module};

#[test]
fn a_compile_error_carries_log_line_and_excerpt() {
    let f = Fixture::new();
    let broken = PTX.replace(".visible .entry fault() { ret; }", "gibberish;");
    let error = Module::from_ptx(&f.context, &broken).expect_err("a module");
    assert_eq!(error.kind(), ErrorKind::Load);
    let DriverError::Jit(jit) = &error else { panic!("{error:?}") };
    assert_eq!(jit.line(), Some(6));
    assert!(jit.log().error.contains("not an instruction"));
    assert!(jit.excerpt().contains(">    6 | gibberish;"), "{}", jit.excerpt());
    let text = error.to_string();
    for part in
        ["cuModuleLoadDataEx returned CUDA_ERROR_INVALID_PTX (218)", "line 6; error", ">    6 | gibberish;"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert!(f.context.poison().is_none());
}

#[test]
fn the_log_of_a_good_module_is_kept() {
    let f = Fixture::new();
    assert_eq!(f.module.log().info, "compiled for the double\n");
    assert_eq!((f.module.log().error.as_str(), f.module.log().wall_ms), ("", 2.5));
}

#[test]
fn options_reach_the_compiler_by_value() {
    let f = Fixture::new();
    let options = JitOptions {
        optimization_level: Some(2),
        max_registers: Some(96),
        verbose: true,
        log_bytes: 4096,
        ..JitOptions::default()
    };
    Module::from_ptx_with(&f.context, PTX, &options).expect("a module");
    let seen = f.double.state().jit_options.clone();
    let value = |key| seen.iter().find(|(k, _)| *k == key).map(|&(_, v)| v);
    assert_eq!((value(7), value(0), value(12)), (Some(2), Some(96), Some(1)));
    assert_eq!((value(4), value(6), value(13), value(11)), (Some(4096), Some(4096), None, None));
}

#[test]
fn a_log_longer_than_its_buffer_is_cut() {
    let f = Fixture::new();
    let options = JitOptions { log_bytes: 8, ..JitOptions::default() };
    let error = Module::from_ptx_with(&f.context, "gibberish", &options).expect_err("a module");
    let DriverError::Jit(jit) = error else { panic!("{error:?}") };
    assert_eq!(jit.log().error, "ptxas a");
    assert_eq!(jit.line(), None);
}

#[test]
fn machine_code_does_not_reach_the_driver_as_text() {
    let f = Fixture::new();
    for text in ["\x7fELF", "\x7fELF\x02\x01\x01\x33\x07\0\0\0"] {
        let error = Module::from_ptx(&f.context, text).expect_err("a module");
        assert_eq!(error.kind(), ErrorKind::Load);
        assert_eq!(error.to_string(), "this is an ELF file, such as a cubin, and not PTX");
    }
    assert!(f.double.calls("cuModuleLoad").is_empty(), "the driver would read on behind the text");
}

#[test]
fn names_that_do_not_exist_are_errors_that_name_them() {
    let f = Fixture::new();
    let error = f.module.function("absent").expect_err("a kernel");
    assert_eq!(error.to_string(), "the module has no kernel named \"absent\"");
    let error = f.module.global("absent").expect_err("a variable");
    assert_eq!(error.to_string(), "the module has no variable named \"absent\"");
    assert_eq!(f.module.global("counter").expect("a variable"), (DevicePtr(0x6000_0000), 4));
}

#[test]
fn nul_bytes_never_reach_the_driver() {
    let f = Fixture::new();
    let error = Module::from_ptx(&f.context, "// a\0b").expect_err("a module");
    assert_eq!(error.to_string(), "PTX contains a NUL byte at offset 4");
    assert!(matches!(f.module.function("a\0"), Err(DriverError::InteriorNul { offset: 1, .. })));
    assert!(f.double.calls("cuModule").is_empty());
}

#[test]
fn attributes_and_parameters_are_read_once() {
    let f = Fixture::new();
    let kernel = f.function("mixed");
    assert_eq!(kernel.parameter_sizes(), Some(&[8, 4, 4][..]));
    let attributes = kernel.attributes();
    assert_eq!((attributes.max_threads_per_block, attributes.registers), (1024, 24));
    assert_eq!((attributes.ptx_target, attributes.binary_target), (75, 90));
    f.double.forget_calls();
    kernel.attributes();
    kernel.parameter_sizes();
    assert!(f.double.calls("").is_empty());
    assert_eq!(kernel.max_active_blocks(256, 0).expect("a count"), 8);
    let suggestion = kernel.suggested_block(0).expect("a suggestion");
    assert_eq!((suggestion.block_threads, suggestion.min_grid), (1024, 264));
}

#[test]
fn unloading_waits_for_kernels_and_functions_keep_their_module() {
    let f = Fixture::new();
    let kernel = f.function("triple");
    drop(f.module);
    assert_eq!(f.double.live()[4], 1);
    f.double.forget_calls();
    drop(kernel);
    let calls: Vec<_> =
        f.double.calls("").into_iter().filter(|c| !c.starts_with("cuCtxGetCurrent")).collect();
    assert_eq!(calls, ["cuCtxSynchronize()", "cuModuleUnload()"]);
}
