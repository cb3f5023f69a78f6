//! A float is no address.
use ptx_builder::{F32, Module, Target};

fn main() {
    Module::new(Target::SM_80).kernel("k", |k| {
        let x = k.param::<F32>("x");
        k.ld_global::<F32>(x);
    });
}
