//! Adds two vectors on the first device: by a launch, and by a graph that was built node by node.
//!
//! `cargo run -p gpu-driver --example vector_add`

#![allow(clippy::print_stdout, clippy::print_stderr)]

use gpu_driver::graph::{Graph, KernelNode, MemsetValue, Region};
use gpu_driver::{
    Context, DeviceBuffer, Driver, DriverError, EventKind, Function, KernelArgs, LaunchConfig, Module,
    SharedPinned, Stream,
};
use std::process::ExitCode;
use std::sync::Arc;

/// c[i] = a[i] + b[i] for i < n
const PTX: &str = "
.version 7.0
.target sm_75
.address_size 64
.visible .entry vector_add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p1;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;
    .reg .f32 %f<4>;
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u64 %rd3, [c];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd4, %r5, 4;
    add.s64 %rd5, %rd1, %rd4;
    add.s64 %rd6, %rd2, %rd4;
    add.s64 %rd7, %rd3, %rd4;
    ld.global.f32 %f1, [%rd5];
    ld.global.f32 %f2, [%rd6];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%rd7], %f3;
DONE:
    ret;
}
";

const N: usize = 1_000_003;
const BLOCK: u32 = 256;

struct Vectors {
    a: Arc<DeviceBuffer<f32>>,
    b: Arc<DeviceBuffer<f32>>,
    c: Arc<DeviceBuffer<f32>>,
    expected: Vec<f32>,
}

impl Vectors {
    fn new(stream: &Stream) -> Result<Self, DriverError> {
        let a: Vec<f32> = (0..N).map(|i| i as f32 * 0.5).collect();
        let b: Vec<f32> = (0..N).map(|i| 1000.0 - i as f32).collect();
        Ok(Self {
            expected: a.iter().zip(&b).map(|(x, y)| x + y).collect(),
            a: Arc::new(DeviceBuffer::from_slice(stream, &a)?),
            b: Arc::new(DeviceBuffer::from_slice(stream, &b)?),
            c: Arc::new(DeviceBuffer::zeroed(stream, N)?),
        })
    }

    fn args(&self) -> KernelArgs {
        KernelArgs::new().with(&*self.a).with(&*self.b).with(&*self.c).with(N as u32)
    }
}

fn config() -> LaunchConfig {
    LaunchConfig::new((N as u32).div_ceil(BLOCK), BLOCK)
}

/// Launches the kernel and returns its result and its time on the device in milliseconds.
fn by_launch(stream: &Stream, kernel: &Function, v: &Vectors) -> Result<(Vec<f32>, f32), DriverError> {
    let start = stream.record(EventKind::Timing)?;
    // SAFETY: the parameters are three pointers and a length, each vector has that many elements, `c` is written by
    // nothing else, and all of them live until the copy below has waited.
    unsafe { kernel.launch(stream, &config(), &v.args()) }?;
    let end = stream.record(EventKind::Timing)?;
    let result = stream.read_to_vec(&v.c.as_slice())?;
    Ok((result, end.elapsed_ms(&start)?))
}

/// Clears the result, adds, and copies the result to pinned memory: three nodes in a row.
fn by_graph(
    context: &Context,
    stream: &Stream,
    kernel: &Function,
    v: &Vectors,
) -> Result<Vec<f32>, DriverError> {
    let host = Arc::new(SharedPinned::<f32>::zeroed(context, N)?);
    let result = Region::device(&v.c, ..)?;
    let mut graph = Graph::new(context)?;
    let clear = graph.add_memset(&result, MemsetValue::Byte(0), &[])?;
    let node =
        KernelNode::new(kernel, config(), v.args()).keep(v.a.clone()).keep(v.b.clone()).keep(v.c.clone());
    // SAFETY: as for the launch; the node owns the three vectors, and the edges order it against the other nodes.
    let add = unsafe { graph.add_kernel(node, &[clear.into()]) }?;
    graph.add_memcpy(&Region::pinned(&host, ..)?, &result, &[add.into()])?;
    println!("{}", graph.to_dot().trim_end());

    let exec = graph.instantiate()?;
    exec.upload(stream)?;
    exec.launch(stream)?;
    stream.synchronize()?;
    let mut out = vec![0.0; N];
    host.read_range(0, &mut out)?;
    Ok(out)
}

/// Whether both ways gave the right result.
fn run(driver: &Driver) -> Result<bool, DriverError> {
    let device = driver.device(0)?;
    println!(
        "{}, capability {}, driver for CUDA {}",
        device.name()?,
        device.compute_capability()?,
        driver.version()?
    );
    let context = device.context()?;
    let stream = Stream::new(&context)?;
    let kernel = Module::from_ptx(&context, PTX)?.function("vector_add")?;
    let v = Vectors::new(&stream)?;
    let (launched, ms) = by_launch(&stream, &kernel, &v)?;
    println!("launched: {N} elements in {ms:.3} ms, {}", verdict(launched == v.expected));
    let graphed = by_graph(&context, &stream, &kernel, &v)?;
    println!("graph: {}", verdict(graphed == v.expected));
    Ok(launched == v.expected && graphed == v.expected)
}

fn verdict(right: bool) -> &'static str {
    if right { "right" } else { "WRONG" }
}

fn main() -> ExitCode {
    match Driver::load().and_then(|driver| run(&driver)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vector_add: {error}");
            ExitCode::FAILURE
        }
    }
}
