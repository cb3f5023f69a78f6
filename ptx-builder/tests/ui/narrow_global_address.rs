//! Global memory is addressed with 64 bits.
use ptx_builder::{F32, Module, Target};

fn main() {
    Module::new(Target::SM_80).kernel("k", |k| {
        let tid = k.tid_x();
        k.ld_global::<F32>(tid);
    });
}
