//! Emission, printing, verification and parsing, in instructions per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ptx_builder::{F32, Module, Target, U32, parse, print};
use std::hint::black_box;

/// A kernel of about eight thousand instructions: an unrolled dot product with loops and vector loads.
fn emit() -> Module {
    let mut module = Module::new(Target::SM_90A);
    module.kernel("dot", |k| {
        k.reqntid(256, 1, 1);
        let x = k.param_ptr("x", 16);
        let y = k.param_ptr("y", 16);
        let n = k.param::<U32>("n");
        let tid = k.tid_x();
        let acc = k.named_var::<F32>("acc", 0.0);
        k.unroll(200, |k, _| {
            k.for_range(tid, n, 256, |k, i| {
                let [a, b] = [k.ptr_index(x, i, 64), k.ptr_index(y, i, 64)];
                k.unroll(4, |k, step| {
                    let at = 16 * step.cast_signed();
                    let [a, b] = [k.ld_global_v4::<F32>(a + at), k.ld_global_v4::<F32>(b + at)];
                    for (a, b) in a.into_iter().zip(b) {
                        k.update(acc, |k, acc| k.fma(a, b, acc));
                    }
                });
            });
        });
        let sum = k.warp_sum(acc);
        k.st_global::<F32>(y, sum);
    });
    module
}

fn bench(c: &mut Criterion) {
    let module = emit();
    let insts = module.functions[0].insts().count() as u64;
    let text = print(&module);
    let mut group = c.benchmark_group("ptx");
    group.throughput(Throughput::Elements(insts));
    group.bench_function("emit", |b| b.iter(|| black_box(emit())));
    group.bench_function("print", |b| b.iter(|| print(black_box(&module))));
    group.bench_function("verify", |b| {
        b.iter_batched(|| module.clone(), Module::verify, criterion::BatchSize::LargeInput);
    });
    group.bench_function("parse", |b| b.iter(|| parse(black_box(&text))));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
