//! Speed of the interpreter in lane instructions per second, on one host thread.
//!
//! `alu` is a loop of plain arithmetic; `memory` streams through global memory and sums in shared memory.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ptx_builder::interp::{Launch, LoadedProgram, Memory, Options, Program, Sanitize, launch};
use ptx_builder::{F32, Module, Target, U32};
use std::hint::black_box;

const THREADS: u32 = 256;
const BLOCKS: u32 = 8;

/// Ten instructions of arithmetic, four times in each step of a loop.
fn alu(module: &mut Module) {
    module.kernel("alu", |k| {
        k.reqntid(THREADS, 1, 1);
        let out = k.param_ptr("out", 4);
        let t = k.global_tid_x();
        let x = k.named_var::<F32>("x", 1.0);
        let n = k.named_var::<U32>("n", 1);
        k.for_range::<U32>(0, 256, 1, |k, i| {
            k.unroll(4, |k, _| {
                k.update(x, |k, x| k.fma(x, 0.5f32, 1.0f32));
                k.update(n, |k, n| k.mad(n, 5u32, i));
                k.update(n, |k, n| k.xor(n, t));
                k.update(n, |k, n| k.shl(n, 1));
                k.update(x, |k, x| k.add(x, 0.25f32));
                k.update(n, |k, n| k.add(n, 7u32));
                k.update(x, |k, x| k.mul(x, 0.75f32));
                k.update(n, |k, n| k.and(n, 0xFF_FFFFu32));
                k.update(n, |k, n| k.or(n, 1u32));
                k.update(x, |k, x| k.max(x, 0.125f32));
            });
        });
        let n = k.get(n);
        let f = k.cvt::<F32>(n);
        let x = k.get(x);
        let sum = k.add(x, f);
        let at = k.ptr_index(out, t, 4);
        k.st_global::<F32>(at, sum);
    });
}

fn memory_kernel(module: &mut Module) {
    module.kernel("memory", |k| {
        k.reqntid(THREADS, 1, 1);
        let out = k.param_ptr("out", 4);
        let tile = k.shared::<F32>("tile", THREADS);
        let t = k.tid_x();
        let g = k.global_tid_x();
        let at = k.ptr_index(out, g, 4);
        let slot = k.shared_index(tile, t);
        let acc = k.named_var::<F32>("acc", 0.0);
        k.for_range::<U32>(0, 64, 1, |k, _| {
            let v = k.ld_global::<F32>(at);
            k.st_shared::<F32>(slot, v);
            k.barrier();
            let w = k.ld_shared::<F32>(slot);
            k.update(acc, |k, acc| k.add(acc, w));
            k.barrier();
        });
        let acc = k.get(acc);
        k.st_global::<F32>(at, acc);
    });
}

struct Bench {
    memory: Memory,
    program: LoadedProgram,
    out: u64,
}

impl Bench {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let mut module = Module::new(Target::SM_80);
        alu(&mut module);
        memory_kernel(&mut module);
        let memory = Memory::new();
        let program = Program::new(&module.verify()?)?.load(&memory)?;
        let bytes = u64::from(BLOCKS * THREADS * 4);
        let out = memory.alloc(bytes)?;
        memory.fill(out, &[0, 0, 0, 0], bytes / 4)?;
        Ok(Self { memory, program, out })
    }

    /// Lane instructions of a launch.
    fn run(&self, kernel: &str, sanitize: Sanitize) -> u64 {
        let options = Options { sanitize, threads: Some(1), ..Options::default() };
        let Some(kernel) = self.program.kernel(kernel) else { return 0 };
        let params = [self.out.to_le_bytes().to_vec()];
        let what = Launch {
            kernel: &kernel,
            grid: [BLOCKS, 1, 1],
            block: [THREADS, 1, 1],
            cluster: [1; 3],
            dynamic_shared: 0,
            params: &params,
        };
        match launch(&self.memory, &what, &options) {
            Ok(report) if report.is_clean() => report.instructions * 32,
            _ => 0,
        }
    }
}

fn speed(c: &mut Criterion) {
    let bench = match Bench::new() {
        Ok(bench) => bench,
        Err(error) => panic!("{error}"),
    };
    let mut group = c.benchmark_group("interp");
    group.sample_size(20);
    for kernel in ["alu", "memory"] {
        for (name, sanitize) in [("plain", Sanitize::NONE), ("sanitized", Sanitize::ALL)] {
            let lanes = bench.run(kernel, sanitize);
            assert!(lanes > 0, "the kernel {kernel} does not run cleanly");
            group.throughput(Throughput::Elements(lanes));
            group.bench_function(format!("{kernel}/{name}"), |b| {
                b.iter(|| black_box(bench.run(kernel, sanitize)))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, speed);
criterion_main!(benches);
