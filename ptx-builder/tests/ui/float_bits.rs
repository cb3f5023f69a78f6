//! Floats have no bitwise operations, integers no fused multiply-add.
use ptx_builder::{F32, Module, Target};

fn main() {
    Module::new(Target::SM_80).kernel("k", |k| {
        let x = k.param::<F32>("x");
        k.and(x, x);
        let n = k.tid_x();
        k.fma(n, n, n);
    });
}
