//! The CPU backend passes the conformance suite, with one thread and with several, bit for bit the same.

#![allow(clippy::print_stdout)] // The report, for whoever reads the test's output.

use graph::conformance::{ConformanceBackend, Job, Run, Selection, run_suite};
use graph::{BufferId, ComputeGraph, TensorView, execute_graph};
use runtime::cpu::{Binding, CpuBackend, CpuMemory, Workers};
use tensor_formats::ElementType;

const SHORT_CACHE: &str = "a cache of another type than F32";

/// Each pool of threads is one way of running a case.
struct Cpu {
    pools: Vec<Workers>,
}

impl ConformanceBackend for Cpu {
    type Error = Box<dyn std::error::Error>;

    /// Caches are in F32 here, of whatever type what is stored in them is.
    fn unsupported(&self, graph: &ComputeGraph) -> Option<String> {
        let mut caches = graph.nodes().iter().filter(|node| node.shape().rank() == 4);
        caches.find(|cache| cache.dtype() != ElementType::F32).map(|_| SHORT_CACHE.into())
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Vec<Run>, Self::Error> {
        self.pools.iter().map(|workers| run(workers, job)).collect()
    }
}

fn run(workers: &Workers, job: &Job<'_>) -> Result<Run, Box<dyn std::error::Error>> {
    let poison = f32::from_le_bytes([job.poison; 4]);
    let workspace = vec![poison; (job.plan.workspace_bytes as usize).div_ceil(4)];
    let mut memory = CpuMemory { workspace, ..CpuMemory::default() };
    let mut leaves = vec![Binding::Unbound; job.graph.nodes().len()];
    for (id, bytes) in job.leaves {
        let words = || bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
        leaves[id.index()] = match job.graph.get(*id)?.dtype() {
            ElementType::U32 => {
                memory.indices.push(words().map(u32::from_le_bytes).collect());
                Binding::Indices(memory.indices.len() - 1)
            }
            ElementType::F32 | ElementType::Q8Act => {
                memory.values.push(words().map(f32::from_le_bytes).collect());
                Binding::Values(memory.values.len() - 1)
            }
            _ => Binding::Bytes(bytes),
        };
    }
    let mut backend = CpuBackend::new(workers.simd(), &mut memory, &leaves);
    workers.run(|| execute_graph(job.graph, job.plan, &mut backend))?;
    let read = |view: &TensorView| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let bytes: &[u8] = match view.buffer {
            BufferId::Leaf(id) => match leaves[id.index()] {
                Binding::Bytes(bytes) => bytes,
                Binding::Values(index) => bytemuck::cast_slice(&memory.values[index]),
                Binding::Indices(index) => bytemuck::cast_slice(&memory.indices[index]),
                Binding::Unbound => return Err("a leaf without memory".into()),
            },
            BufferId::Workspace => bytemuck::cast_slice(&memory.workspace),
        };
        Ok(bytes[view.offset as usize..view.end() as usize].to_vec())
    };
    let buffers = job.read.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Run { label: format!("{} threads", workers.threads()), buffers })
}

#[test]
fn the_cpu_backend_passes() {
    let pools = [1, 3].map(|threads| Workers::new(Some(threads)).unwrap());
    let report = run_suite(&mut Cpu { pools: pools.into() }, &Selection::fast());
    println!("{report}");
    assert!(report.is_success(), "{report}");
    assert!(report.skipped.iter().all(|(_, reason)| reason == SHORT_CACHE), "{:?}", report.skipped);
}
