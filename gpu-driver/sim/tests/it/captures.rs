//! Streams that are captured to graphs, through the C library, in a process of its own.

use std::ffi::{c_char, c_int, c_uint, c_void};

use gpu_driver::sys::*;

use crate::c_api::{Library, call, ok, refused, started};
use crate::library::{in_process, installed, is_child};
use crate::support::KERNELS;

type Pointers = *mut *mut c_void;

/// A buffer of four words with two kernels that change it, and streams.
struct Captured {
    l: Library,
    triple: CUfunction,
    add: CUfunction,
    data: CUdeviceptr,
    streams: [CUstream; 2],
    event: CUevent,
}

impl Captured {
    fn new() -> Self {
        let (mut device, mut context) = (0, CUcontext::NULL);
        let l = started(&mut device, &mut context);
        let text = std::ffi::CString::new(KERNELS).unwrap();
        let (mut module, mut triple, mut add) = (CUmodule::NULL, CUfunction::NULL, CUfunction::NULL);
        ok!(l, "cuModuleLoadData"(&mut module => *mut CUmodule, text.as_ptr().cast() => *const c_void));
        for (function, name) in [(&mut triple, c"triple"), (&mut add, c"add")] {
            ok!(l, "cuModuleGetFunction"(function => *mut CUfunction, module => CUmodule, name.as_ptr() => *const c_char));
        }
        let (mut streams, mut event, mut data) = ([CUstream::NULL; 2], CUevent::NULL, 0u64);
        for stream in &mut streams {
            ok!(l, "cuStreamCreate"(stream => *mut CUstream, 1 => c_uint));
        }
        ok!(l, "cuEventCreate"(&mut event => *mut CUevent, 2 => c_uint));
        ok!(l, "cuMemAlloc_v2"(&mut data => *mut u64, 16 => usize));
        Self { l, triple, add, data, streams, event }
    }

    fn begin(&self, mode: c_uint) {
        ok!(self.l, "cuStreamBeginCapture_v2"(self.streams[0] => CUstream, mode => c_uint));
    }

    fn end(&self) -> (CUresult, CUgraph) {
        let mut graph = CUgraph(std::ptr::without_provenance_mut(64));
        let code =
            call!(self.l, "cuStreamEndCapture"(self.streams[0] => CUstream, &mut graph => *mut CUgraph));
        (code, graph)
    }

    /// `add` where there is a number, else `triple`.
    fn launch(&self, stream: usize, add: Option<u32>) -> CUresult {
        // `triple` has only the first parameter: what comes second is not read.
        let (data, n) = (self.data, add.unwrap_or(0));
        let mut params =
            [(&raw const data).cast_mut().cast::<c_void>(), (&raw const n).cast_mut().cast::<c_void>()];
        let function = if add.is_some() { self.add } else { self.triple };
        call!(self.l, "cuLaunchKernel"(
            function => CUfunction, 1 => c_uint, 1 => c_uint, 1 => c_uint, 4 => c_uint, 1 => c_uint, 1 => c_uint,
            0 => c_uint, self.streams[stream] => CUstream, params.as_mut_ptr() => Pointers,
            std::ptr::null_mut() => Pointers,
        ))
    }

    fn record(&self, stream: usize) {
        ok!(self.l, "cuEventRecord"(self.event => CUevent, self.streams[stream] => CUstream));
    }

    fn wait(&self, stream: usize) -> CUresult {
        call!(self.l, "cuStreamWaitEvent"(self.streams[stream] => CUstream, self.event => CUevent, 0 => c_uint))
    }

    fn status(&self, stream: usize) -> c_uint {
        let mut status = 7;
        ok!(self.l, "cuStreamIsCapturing"(self.streams[stream] => CUstream, &mut status => *mut c_uint));
        status
    }

    /// Numbers of nodes and edges.
    fn size(&self, graph: CUgraph) -> (usize, usize) {
        let (mut nodes, mut edges, none) = (0, 0, std::ptr::null_mut::<CUgraphNode>());
        ok!(self.l, "cuGraphGetNodes"(graph => CUgraph, none => *mut CUgraphNode, &mut nodes => *mut usize));
        ok!(self.l, "cuGraphGetEdges"(graph => CUgraph, none => *mut CUgraphNode, none => *mut CUgraphNode, &mut edges => *mut usize));
        (nodes, edges)
    }

    fn instantiate(&self, graph: CUgraph) -> CUgraphExec {
        let mut exec = CUgraphExec::NULL;
        ok!(self.l, "cuGraphInstantiateWithFlags"(&mut exec => *mut CUgraphExec, graph => CUgraph, 0 => u64));
        exec
    }

    fn run(&self, exec: CUgraphExec) {
        ok!(self.l, "cuGraphLaunch"(exec => CUgraphExec, self.streams[0] => CUstream));
        ok!(self.l, "cuStreamSynchronize"(self.streams[0] => CUstream));
    }

    fn words(&self) -> [u32; 4] {
        let mut words = [0u32; 4];
        let out = words.as_mut_ptr().cast::<c_void>();
        ok!(self.l, "cuMemcpyDtoH_v2"(out => *mut c_void, self.data => u64, 16 => usize));
        words
    }
}

/// Runs the rest of a test in a process of its own; there, it gives what the test works on.
fn captured(test: &str) -> Option<Captured> {
    if is_child() {
        return Some(Captured::new());
    }
    let (_folder, path) = installed();
    for seed in ["0", "1", "2"] {
        in_process(&format!("captures::{test}"), &[("WARPSMITH_SIM_SEED", seed)], &path);
    }
    None
}

#[test]
fn a_captured_stream_runs_nothing_and_gives_its_graph() {
    let Some(c) = captured("a_captured_stream_runs_nothing_and_gives_its_graph") else { return };
    let l = &c.l;
    let mut from = [1u32, 2, 3, 4];
    ok!(l, "cuMemsetD32_v2"(c.data => u64, 9 => c_uint, 4 => usize));
    c.begin(0);
    assert_eq!((c.status(0), c.status(1)), (1, 0));
    // Pageable memory is read by each launch.
    ok!(l, "cuMemcpyHtoDAsync_v2"(c.data => u64, from.as_ptr().cast() => *const c_void, 16 => usize, c.streams[0] => CUstream));
    assert_eq!((c.launch(0, None), c.launch(0, Some(5))), (CUresult::SUCCESS, CUresult::SUCCESS));
    let (code, graph) = c.end();
    assert_eq!(code, CUresult::SUCCESS);
    assert_eq!((c.status(0), c.size(graph)), (0, (3, 2)));
    assert_eq!(c.words(), [9; 4]);
    let exec = c.instantiate(graph);
    c.run(exec);
    assert_eq!(c.words(), [8, 11, 14, 17]);
    from = [0; 4];
    c.run(exec);
    assert_eq!(c.words(), [5; 4], "{from:?}");
    // A launch that is captured is a child of the graph.
    c.begin(0);
    ok!(l, "cuGraphLaunch"(exec => CUgraphExec, c.streams[0] => CUstream));
    assert_eq!(c.launch(0, Some(1)), CUresult::SUCCESS);
    let (_, outer) = c.end();
    let outer = c.instantiate(outer);
    ok!(l, "cuGraphExecDestroy"(exec => CUgraphExec));
    ok!(l, "cuGraphDestroy"(graph => CUgraph));
    c.run(outer);
    assert_eq!(c.words(), [6; 4]);
}

#[test]
fn events_fork_and_join_captures() {
    let Some(c) = captured("events_fork_and_join_captures") else { return };
    c.begin(0);
    ok!(c.l, "cuMemsetD32Async"(c.data => u64, 1 => c_uint, 4 => usize, c.streams[0] => CUstream));
    c.record(0);
    assert_eq!((c.wait(1), c.status(1)), (CUresult::SUCCESS, 1));
    assert_eq!(c.launch(1, Some(1)), CUresult::SUCCESS);
    let mut graph = CUgraph::NULL;
    refused!(ERROR_STREAM_CAPTURE_UNMATCHED, c.l, "cuStreamEndCapture"(c.streams[1] => CUstream, &mut graph => *mut CUgraph));
    c.record(1);
    assert_eq!(c.wait(0), CUresult::SUCCESS);
    assert_eq!(c.launch(0, None), CUresult::SUCCESS);
    let (code, graph) = c.end();
    assert_eq!((code, c.status(1)), (CUresult::SUCCESS, 0));
    assert_eq!(c.size(graph), (3, 3));
    c.run(c.instantiate(graph));
    assert_eq!(c.words(), [6; 4]);
    // What is not joined gives no graph.
    c.begin(0);
    c.record(0);
    assert_eq!((c.wait(1), c.launch(1, Some(1))), (CUresult::SUCCESS, CUresult::SUCCESS));
    assert_eq!(c.end(), (CUresult::ERROR_STREAM_CAPTURE_UNJOINED, CUgraph::NULL));
    assert_eq!((c.status(0), c.status(1)), (0, 0));
    // An event of a capture that has ended stands for nothing.
    assert_eq!(c.wait(1), CUresult::ERROR_CAPTURED_EVENT);
    c.record(1);
    assert_eq!(c.wait(0), CUresult::SUCCESS);
}

#[test]
fn what_cannot_be_captured_breaks_the_capture() {
    let Some(c) = captured("what_cannot_be_captured_breaks_the_capture") else { return };
    let (l, stream) = (&c.l, c.streams[0]);
    let mut graph = CUgraph::NULL;
    refused!(ERROR_ILLEGAL_STATE, l, "cuStreamEndCapture"(stream => CUstream, &mut graph => *mut CUgraph));
    for default in [0, 1] {
        let default = CUstream(std::ptr::without_provenance_mut(default));
        refused!(ERROR_STREAM_CAPTURE_UNSUPPORTED, l, "cuStreamBeginCapture_v2"(default => CUstream, 0 => c_uint));
    }
    refused!(ERROR_INVALID_VALUE, l, "cuStreamBeginCapture_v2"(stream => CUstream, 3 => c_uint));
    let broken = |what: &dyn Fn() -> CUresult, code| {
        c.begin(0);
        refused!(ERROR_ILLEGAL_STATE, l, "cuStreamBeginCapture_v2"(stream => CUstream, 0 => c_uint));
        assert_eq!(c.status(0), 1);
        assert_eq!(what(), code);
        assert_eq!(c.status(0), 2, "{code:?}");
        assert_eq!(c.launch(0, None), CUresult::ERROR_STREAM_CAPTURE_INVALIDATED);
        assert_eq!(c.end(), (CUresult::ERROR_STREAM_CAPTURE_INVALIDATED, CUgraph::NULL));
    };
    let unsupported = CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED;
    broken(&|| call!(l, "cuStreamSynchronize"(stream => CUstream)), unsupported);
    broken(&|| call!(l, "cuStreamQuery"(stream => CUstream)), unsupported);
    broken(&|| call!(l, "cuCtxSynchronize"()), unsupported);
    broken(&|| call!(l, "cuMemAlloc_v2"(&mut 0 => *mut u64, 16 => usize)), unsupported);
    broken(&|| call!(l, "cuMemFree_v2"(c.data => u64)), unsupported);
}

/// Modes say which threads may go on with what would disturb a capture.
#[test]
fn careless_calls_are_refused_where_modes_say_so() {
    let Some(c) = captured("careless_calls_are_refused_where_modes_say_so") else { return };
    let (l, mut device) = (&c.l, 0 as CUdevice);
    let mut context = CUcontext::NULL;
    ok!(l, "cuDeviceGet"(&mut device => *mut CUdevice, 0 => c_int));
    ok!(l, "cuDevicePrimaryCtxRetain"(&mut context => *mut CUcontext, device => CUdevice));
    let allocate = || {
        ok!(l, "cuCtxSetCurrent"(context => CUcontext));
        call!(l, "cuMemAlloc_v2"(&mut 0 => *mut u64, 16 => usize))
    };
    let elsewhere = || std::thread::scope(|scope| scope.spawn(allocate).join().unwrap());
    let unsupported = CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED;
    for (mode, here, there) in [
        (0, unsupported, unsupported),
        (1, unsupported, CUresult::SUCCESS),
        (2, CUresult::SUCCESS, CUresult::SUCCESS),
    ] {
        c.begin(mode);
        assert_eq!(elsewhere(), there, "{mode}");
        assert_eq!(allocate(), here, "{mode}");
        let broken = here != CUresult::SUCCESS;
        assert_eq!(c.status(0), if broken { 2 } else { 1 });
        assert_eq!(c.end().0.is_success(), !broken);
    }
    // A thread can say that it knows what it does.
    let mut mode: c_uint = 2;
    ok!(l, "cuThreadExchangeStreamCaptureMode"(&mut mode => *mut c_uint));
    assert_eq!(mode, 0);
    c.begin(0);
    assert_eq!(allocate(), CUresult::SUCCESS);
    // Only the thread that began a capture ends it, unless it is relaxed.
    let ended = std::thread::scope(|scope| scope.spawn(|| (allocate(), c.end().0)).join().unwrap());
    assert_eq!(ended, (unsupported, CUresult::ERROR_STREAM_CAPTURE_WRONG_THREAD));
    assert_eq!(c.end().0, CUresult::ERROR_STREAM_CAPTURE_INVALIDATED);
}

/// The legacy default stream, events from outside, and two captures must not meet a capture.
#[test]
fn captures_are_isolated() {
    let Some(c) = captured("captures_are_isolated") else { return };
    let l = &c.l;
    c.record(1);
    c.begin(0);
    assert_eq!(c.wait(0), CUresult::ERROR_STREAM_CAPTURE_ISOLATION);
    assert_eq!(c.end().0, CUresult::ERROR_STREAM_CAPTURE_INVALIDATED);
    // Two captures.
    c.begin(0);
    ok!(l, "cuStreamBeginCapture_v2"(c.streams[1] => CUstream, 0 => c_uint));
    c.record(1);
    assert_eq!(c.wait(0), CUresult::ERROR_STREAM_CAPTURE_MERGE);
    assert_eq!((c.status(0), c.status(1)), (2, 2));
    // A stream that is destroyed takes its capture along.
    ok!(l, "cuStreamDestroy_v2"(c.streams[1] => CUstream));
    assert_eq!(c.end().0, CUresult::ERROR_STREAM_CAPTURE_INVALIDATED);
    // Streams that do not block are apart from the default stream, others are not.
    c.begin(0);
    ok!(l, "cuMemsetD32Async"(c.data => u64, 1 => c_uint, 4 => usize, CUstream::NULL => CUstream));
    assert_eq!(c.end().0, CUresult::SUCCESS);
    let (mut blocking, mut status, mut graph) = (CUstream::NULL, 0, CUgraph::NULL);
    ok!(l, "cuStreamCreate"(&mut blocking => *mut CUstream, 0 => c_uint));
    ok!(l, "cuStreamBeginCapture_v2"(blocking => CUstream, 2 => c_uint));
    refused!(ERROR_STREAM_CAPTURE_IMPLICIT, l, "cuStreamIsCapturing"(CUstream::NULL => CUstream, &mut status => *mut c_uint));
    ok!(l, "cuStreamIsCapturing"(blocking => CUstream, &mut status => *mut c_uint));
    assert_eq!(status, 1, "a look breaks nothing");
    refused!(ERROR_STREAM_CAPTURE_IMPLICIT, l, "cuMemsetD32Async"(c.data => u64, 1 => c_uint, 4 => usize, CUstream::NULL => CUstream));
    refused!(ERROR_STREAM_CAPTURE_INVALIDATED, l, "cuStreamEndCapture"(blocking => CUstream, &mut graph => *mut CUgraph));
    // Memory that a graph would have to allocate.
    c.begin(2);
    refused!(ERROR_NOT_SUPPORTED, l, "cuMemAllocAsync"(&mut 0 => *mut u64, 16 => usize, c.streams[0] => CUstream));
    assert_eq!(c.end().0, CUresult::ERROR_STREAM_CAPTURE_INVALIDATED);
}

#[test]
fn a_program_can_look_into_a_capture_and_add_to_it() {
    let Some(c) = captured("a_program_can_look_into_a_capture_and_add_to_it") else { return };
    let (l, stream) = (&c.l, c.streams[0]);
    let (mut own, mut first, none) = (CUgraph::NULL, CUgraphNode::NULL, std::ptr::null::<CUgraphNode>());
    ok!(l, "cuGraphCreate"(&mut own => *mut CUgraph, 0 => c_uint));
    ok!(l, "cuGraphAddEmptyNode"(&mut first => *mut CUgraphNode, own => CUgraph, none => *const CUgraphNode, 0 => usize));
    let no_data = std::ptr::null::<CUgraphEdgeData>();
    ok!(l, "cuStreamBeginCaptureToGraph"(
        stream => CUstream, own => CUgraph, &first => *const CUgraphNode, no_data => *const CUgraphEdgeData,
        1 => usize, 2 => c_uint,
    ));
    let (mut status, mut id, mut graph, mut nodes, mut n) = (0, 0u64, CUgraph::NULL, none, 0);
    let mut look = || {
        ok!(l, "cuStreamGetCaptureInfo_v2"(
            stream => CUstream, &mut status => *mut c_uint, &mut id => *mut u64, &mut graph => *mut CUgraph,
            &mut nodes => *mut *const CUgraphNode, &mut n => *mut usize,
        ));
        assert_eq!((status, id != 0, graph, n), (1, true, own, 1));
        // SAFETY: the driver has told of one node, and no call about the stream has been made since.
        unsafe { nodes.read() }
    };
    assert_eq!(look(), first);
    assert_eq!(c.launch(0, None), CUresult::SUCCESS);
    let mut kernel = look();
    assert_ne!(kernel, first);
    let mut second = CUgraphNode::NULL;
    ok!(l, "cuGraphAddEmptyNode"(&mut second => *mut CUgraphNode, own => CUgraph, &kernel => *const CUgraphNode, 1 => usize));
    ok!(l, "cuStreamUpdateCaptureDependencies"(stream => CUstream, &mut second => *mut CUgraphNode, 1 => usize, 1 => c_uint));
    assert_eq!(look(), second);
    ok!(l, "cuStreamUpdateCaptureDependencies"(stream => CUstream, &mut kernel => *mut CUgraphNode, 1 => usize, 0 => c_uint));
    assert_eq!(c.launch(0, Some(1)), CUresult::SUCCESS);
    assert_eq!(c.end(), (CUresult::SUCCESS, own));
    assert_eq!(c.size(own), (4, 4));
}
