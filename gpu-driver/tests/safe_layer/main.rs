//! The rules of the safe layer, checked without a GPU over a driver made of Rust functions.

mod contexts;
mod double;
mod graphs;
mod launches;
mod loading;
mod memory;
mod modules;
mod ownership;
mod streams;
mod updates;

use double::Double;
use gpu_driver::{Context, Driver, Function, Module, Stream};

/// PTX as far as the double reads it.
const PTX: &str = "\
.version 7.0
.target sm_75
.address_size 64
.visible .entry triple(.param .u64 data) { ret; }
.visible .entry mixed(.param .u64 p, .param .u32 n, .param .f32 x) { ret; }
.visible .entry fault() { ret; }
.visible .entry fat() { ret; }
.visible .entry unfit() { ret; }
.visible .global .b32 counter;
";

/// A double with a context, a stream and the module on its first device.
struct Fixture {
    double: Double,
    context: Context,
    stream: Stream,
    module: Module,
}

impl Fixture {
    fn new() -> Self {
        let double = Double::new();
        let driver = double.driver();
        Self::over(double, &driver)
    }

    fn over(double: Double, driver: &Driver) -> Self {
        let context = driver.context(0).expect("a context");
        let stream = Stream::new(&context).expect("a stream");
        let module = Module::from_ptx(&context, PTX).expect("a module");
        double.forget_calls();
        Self { double, context, stream, module }
    }

    fn function(&self, name: &str) -> Function {
        self.module.function(name).expect("a kernel")
    }
}
