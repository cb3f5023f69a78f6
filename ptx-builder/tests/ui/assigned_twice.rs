//! Only variables are assigned again.
use ptx_builder::{Module, Target};

fn main() {
    Module::new(Target::SM_80).kernel("k", |k| {
        let tid = k.tid_x();
        k.set(tid, 1);
    });
}
