//! A cast is free, so it stays within a register class.
use ptx_builder::{F32, Module, Target, U32};

fn main() {
    Module::new(Target::SM_80).kernel("k", |k| {
        let bits = k.param::<U32>("bits");
        bits.cast::<F32>();
    });
}
