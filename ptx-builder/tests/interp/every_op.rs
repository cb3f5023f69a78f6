//! Every instruction that the IR has can be executed.

use ptx_builder::interp::{InterpError, Launch, Memory, Options, Program, launch};
use ptx_builder::testing::random_module;
use ptx_builder::{Op, Target, all_ops_module};

/// Bytes for every parameter of a kernel; the first word points to memory.
fn params(function: &ptx_builder::Function, memory: &Memory) -> Vec<Vec<u8>> {
    let area = memory.alloc(1 << 16).unwrap();
    memory.write(area, &vec![0; 1 << 16]).unwrap();
    let middle = area + (1 << 15);
    let bytes = |param: &ptx_builder::Param| {
        let mut value = vec![0; param.ty.bytes() as usize];
        if let Some(first) = value.get_mut(..8) {
            first.copy_from_slice(&middle.to_le_bytes());
        }
        value
    };
    function.params.iter().map(bytes).collect()
}

#[test]
fn every_operation_executes() {
    let mut seen = std::collections::HashSet::new();
    for target in Target::all() {
        let module = all_ops_module(*target);
        for kernel in 0..module.functions.len() {
            let executed = one_kernel(&module, kernel);
            if let Some(name) = executed {
                seen.insert(name);
            }
        }
    }
    let missing: Vec<&str> = Op::ALL
        .iter()
        .map(|op| op.info().name)
        .filter(|name| !seen.contains(&format!("op_{}", name.to_lowercase())))
        .collect();
    assert!(missing.is_empty(), "never executed: {missing:?}");
}

/// Decodes the module with only that kernel and runs it; its name if it is one.
fn one_kernel(module: &ptx_builder::Module, kernel: usize) -> Option<String> {
    use ptx_builder::FunctionKind;
    let function = &module.functions[kernel];
    if function.kind != FunctionKind::Kernel {
        return None;
    }
    let mut part = ptx_builder::Module { functions: Vec::new(), globals: module.globals.clone(), ..*module };
    let kept = module.functions.iter().filter(|f| f.kind == FunctionKind::Device || f.name == function.name);
    part.functions.extend(kept.cloned());
    let name = function.name.clone();
    let verified = part.verify().unwrap_or_else(|errors| panic!("{name}: {errors}"));
    let program = match Program::new(&verified) {
        Ok(program) => program,
        Err(error) => panic!("{name} for {}: {error}", module.target),
    };
    let memory = Memory::new();
    let loaded = program.load(&memory).unwrap();
    let kernel = loaded.kernel(&name).unwrap();
    let params = params(kernel.function(), &memory);
    let what = Launch {
        kernel: &kernel,
        grid: [2, 1, 1],
        block: [128, 1, 1],
        cluster: [1; 3],
        dynamic_shared: 64,
        params: &params,
    };
    // What these kernels do to memory makes no sense; that they end is what counts.
    let options = Options { fuel: 1 << 20, threads: Some(1), ..Options::default() };
    if let Err(error) = launch(&memory, &what, &options) {
        panic!("{name}: {error}");
    }
    Some(name)
}

#[test]
fn inline_text_is_executed_if_it_is_understood() {
    use ptx_builder::{Module, U32};
    let module = |text: &str| {
        let mut module = Module::new(Target::SM_80);
        module.kernel("k", |k| {
            k.maxntid(32, 1, 1);
            let out = k.param_ptr("out", 4);
            let t = k.tid_x();
            let d = k.fresh::<U32>();
            k.inline(text, &[d.id()], &[t.id()]);
            let at = k.ptr_index(out, t, 4);
            k.st_global::<U32>(at, d);
        });
        module.verify().unwrap()
    };
    let memory = Memory::new();
    let loaded = Program::new(&module("mad.lo.u32 {0}, {1}, 3, 1;")).unwrap().load(&memory).unwrap();
    let kernel = loaded.kernel("k").unwrap();
    let (report, out) = crate::support::Setup::default().run_on(&memory, &kernel, 32);
    assert!(report.is_clean());
    assert_eq!(out, (0..32).map(|t| 3 * t + 1).collect::<Vec<_>>());
    let error = Program::new(&module("frobnicate.b32 {0}, {1};")).unwrap_err();
    assert!(
        matches!(&error, InterpError::Unsupported { line, .. } if line.contains("frobnicate")),
        "{error}"
    );
}

#[test]
fn random_modules_do_not_panic() {
    for seed in 0..150u32 {
        let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let target = Target::all()[seed as usize % Target::all().len()];
        let module = random_module(target, 60, &mut next);
        let Ok(verified) = module.verify() else { continue };
        let Ok(program) = Program::new(&verified) else { continue };
        let memory = Memory::new();
        let loaded = program.load(&memory).unwrap();
        for (_, function) in verified.module().kernels() {
            let kernel = loaded.kernel(&function.name).unwrap();
            let params = params(function, &memory);
            let block = function.reqntid.or(function.maxntid).unwrap_or([64, 1, 1]);
            let what = Launch {
                kernel: &kernel,
                grid: [2, 1, 1],
                block,
                cluster: [1; 3],
                dynamic_shared: 1024,
                params: &params,
            };
            let options =
                Options { fuel: 20_000, seed: u64::from(seed), threads: Some(1), ..Options::default() };
            // Refusals are fine: block sizes are random too.
            let _ = launch(&memory, &what, &options);
        }
    }
}
