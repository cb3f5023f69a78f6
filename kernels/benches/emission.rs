//! How long it takes to turn the catalogue into PTX text.

use criterion::{Criterion, criterion_group, criterion_main};
use ptx_builder::Target;

fn emission(c: &mut Criterion) {
    let catalogue = kernels::catalogue();
    c.bench_function("emit the catalogue for sm_90a", |b| {
        b.iter(|| {
            let texts =
                catalogue.iter().map(|kernel| kernel.emit(Target::SM_90A).map(|module| module.to_string()));
            texts.map(|text| text.map_or(0, |text| text.len())).sum::<usize>()
        })
    });
}

criterion_group!(benches, emission);
criterion_main!(benches);
