//! A float cannot be added to an address, neither as an offset nor by an instruction.
use ptx_builder::{F32, Module, Target};

fn main() {
    Module::new(Target::SM_80).kernel("k", |k| {
        let x = k.param_ptr("x", 4);
        let f = k.param::<F32>("f");
        k.ld_global::<F32>(x + 1.0f32);
        k.add(x, f);
    });
}
