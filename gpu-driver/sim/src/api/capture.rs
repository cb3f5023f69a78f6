//! The calls that begin, end and look at captures. What captured streams do is in [`crate::capture`].

use std::ffi::{c_uint, c_ulonglong};

use gpu_driver::sys::*;

use crate::api::graph::{known_graph, known_node, new_graph};
use crate::call::{Call, Name, Outcome, in_context, name, put, put_if};
use crate::capture::{Capture, Mode, Part, exchange_mode};
use crate::handle::Id;

/// `CUstreamCaptureStatus`.
const NONE: c_uint = 0;
const ACTIVE: c_uint = 1;
const INVALIDATED: c_uint = 2;

/// `CUstreamUpdateCaptureDependencies_flags`.
const ADD_DEPENDENCIES: c_uint = 0;
const SET_DEPENDENCIES: c_uint = 1;

fn begin(
    name: Name<'_>,
    stream: CUstream,
    mode: c_uint,
    graph: impl FnOnce(&mut Call<'_>) -> Outcome<(Id, bool, Vec<Id>)>,
) -> CUresult {
    in_context(name, |call| {
        let mode = Mode::of(mode)?;
        // The legacy default stream is never captured.
        let origin = call.own_stream(stream)?.ok_or(CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED)?;
        if call.part(Some(origin)).is_some() {
            return Err(CUresult::ERROR_ILLEGAL_STATE);
        }
        let (graph, into_existing, after) = graph(call)?;
        let (context, thread) = (call.context, std::thread::current().id());
        let id = call.new_id()?;
        let capture = Capture { context, graph, into_existing, origin, mode, thread, broken: false };
        call.captures.insert(id, capture);
        if let Some(stream) = call.streams.get_mut(&origin) {
            stream.part = Some(Part::new(id, after));
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn begin_capture(stream: CUstream, mode: c_uint) -> CUresult {
    begin(name!("cuStreamBeginCapture", "{mode}"), stream, mode, |call| {
        Ok((new_graph(call, false, None)?, false, Vec::new()))
    })
}

/// As programs of CUDA 10.0 call it, in the mode that there was.
pub(crate) unsafe extern "C" fn begin_capture_v1(stream: CUstream) -> CUresult {
    // SAFETY: the caller's promise.
    unsafe { begin_capture(stream, 0) }
}

/// The nodes of an array, which are all of one graph, without repetition.
///
/// # Safety
///
/// `nodes` must have `n` entries; `data` be null, or have as many.
unsafe fn nodes_of(
    call: &Call<'_>,
    graph: Id,
    nodes: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    n: usize,
) -> Outcome<Vec<Id>> {
    if n > 0 && nodes.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let mut found = Vec::with_capacity(n);
    for i in 0..n {
        // SAFETY: the caller's promise.
        let node = known_node(&call.state, unsafe { nodes.add(i).read() })?;
        if call.nodes.get(&node).is_none_or(|node| node.graph != graph) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: as above.
        if !data.is_null() && unsafe { data.add(i).read() } != CUgraphEdgeData::default() {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        found.push(node);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

pub(crate) unsafe extern "C" fn begin_capture_to_graph(
    stream: CUstream,
    graph: CUgraph,
    nodes: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    n: usize,
    mode: c_uint,
) -> CUresult {
    begin(name!("cuStreamBeginCaptureToGraph", "{mode}"), stream, mode, |call| {
        let graph = known_graph(&call.state, graph)?;
        // SAFETY: the caller's promise.
        Ok((graph, true, unsafe { nodes_of(call, graph, nodes, data, n) }?))
    })
}

/// Whether nothing but what `last` follows, or is, was noted.
fn is_joined(call: &Call<'_>, capture: Id, last: &[Id]) -> bool {
    let Some(graph) = call.captures.get(&capture).and_then(|capture| call.graphs.get(&capture.graph)) else {
        return true;
    };
    let mut reached = last.to_vec();
    let mut next = 0;
    while let Some(node) = reached.get(next).copied() {
        next += 1;
        let before = graph.edges.iter().filter(|(_, to, _)| *to == node).map(|(from, ..)| *from);
        for from in before {
            if !reached.contains(&from) {
                reached.push(from);
            }
        }
    }
    let parts = call.streams.values().filter_map(|stream| stream.part.as_ref());
    parts
        .filter(|part| part.capture == capture)
        .flat_map(|part| &part.after)
        .all(|node| reached.contains(node))
}

pub(crate) unsafe extern "C" fn end_capture(stream: CUstream, graph: *mut CUgraph) -> CUresult {
    in_context(name!("cuStreamEndCapture"), |call| {
        put(graph, CUgraph::NULL)?;
        let stream = call.stream(stream)?;
        let part = call.part(stream).cloned().ok_or(CUresult::ERROR_ILLEGAL_STATE)?;
        let capture = call.captures.get(&part.capture).ok_or(CUresult::ERROR_ILLEGAL_STATE)?;
        if Some(capture.origin) != stream {
            return Err(CUresult::ERROR_STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
            return Err(CUresult::ERROR_STREAM_CAPTURE_WRONG_THREAD);
        }
        let outcome = if capture.broken {
            Err(CUresult::ERROR_STREAM_CAPTURE_INVALIDATED)
        } else if !is_joined(call, part.capture, &part.after) {
            Err(CUresult::ERROR_STREAM_CAPTURE_UNJOINED)
        } else {
            Ok(())
        };
        let ended = call.end_capture(part.capture).ok_or(CUresult::ERROR_ILLEGAL_STATE)?;
        match outcome {
            Ok(()) => put(graph, call.handle(ended.graph)),
            Err(code) => {
                if !ended.into_existing {
                    call.remove_graph(ended.graph);
                }
                Err(code)
            }
        }
    })
}

fn status_of(call: &Call<'_>, part: Option<&Part>) -> c_uint {
    match part.and_then(|part| call.captures.get(&part.capture)) {
        None => NONE,
        Some(capture) if capture.broken => INVALIDATED,
        Some(_) => ACTIVE,
    }
}

/// The stream of a call that only looks.
fn looked_at(call: &mut Call<'_>, stream: CUstream) -> Outcome<Option<Id>> {
    let stream = call.stream(stream)?;
    if stream.is_none() && call.legacy_is_captured(call.context) {
        return Err(CUresult::ERROR_STREAM_CAPTURE_IMPLICIT);
    }
    Ok(stream)
}

pub(crate) unsafe extern "C" fn is_capturing(stream: CUstream, status: *mut c_uint) -> CUresult {
    in_context(name!("cuStreamIsCapturing"), |call| {
        let stream = looked_at(call, stream)?;
        put(status, status_of(call, call.part(stream)))
    })
}

pub(crate) unsafe extern "C" fn get_info_v1(
    stream: CUstream,
    status: *mut c_uint,
    id: *mut c_ulonglong,
) -> CUresult {
    use std::ptr::null_mut;
    // SAFETY: the caller's promise; null is for what is not wanted.
    unsafe { get_info(stream, status, id, null_mut(), null_mut(), null_mut()) }
}

pub(crate) unsafe extern "C" fn get_info(
    stream: CUstream,
    status: *mut c_uint,
    id: *mut c_ulonglong,
    graph: *mut CUgraph,
    nodes: *mut *const CUgraphNode,
    n: *mut usize,
) -> CUresult {
    in_context(name!("cuStreamGetCaptureInfo"), |call| {
        let stream = looked_at(call, stream)?;
        let part = call.part(stream);
        let now = status_of(call, part);
        put(status, now)?;
        let Some(part) = part.filter(|_| now == ACTIVE).cloned() else { return Ok(()) };
        put_if(id, c_ulonglong::from(part.capture));
        if let Some(capture) = call.captures.get(&part.capture) {
            put_if(graph, call.handle(capture.graph));
        }
        let told: Vec<CUgraphNode> = part.after.iter().map(|node| call.handle(*node)).collect();
        if let Some(part) = stream.and_then(|id| call.streams.get_mut(&id)).and_then(|s| s.part.as_mut()) {
            // The array lasts until the stream's part changes: documented is until the next call about the stream.
            part.told = told.into();
            put_if(nodes, part.told.as_ptr());
            put_if(n, part.told.len());
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn get_info_v3(
    stream: CUstream,
    status: *mut c_uint,
    id: *mut c_ulonglong,
    graph: *mut CUgraph,
    nodes: *mut *const CUgraphNode,
    data: *mut *const CUgraphEdgeData,
    n: *mut usize,
) -> CUresult {
    // Streams note full dependencies only, which null stands for.
    put_if(data, std::ptr::null());
    // SAFETY: the caller's promise.
    unsafe { get_info(stream, status, id, graph, nodes, n) }
}

pub(crate) unsafe extern "C" fn update_dependencies(
    stream: CUstream,
    nodes: *const CUgraphNode,
    n: usize,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the caller's promise; there is no data.
    unsafe { update_dependencies_v2(stream, nodes, std::ptr::null(), n, flags) }
}

pub(crate) unsafe extern "C" fn update_dependencies_v2(
    stream: CUstream,
    nodes: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    n: usize,
    flags: c_uint,
) -> CUresult {
    in_context(name!("cuStreamUpdateCaptureDependencies", "{n}, {flags}"), |call| {
        if flags > SET_DEPENDENCIES {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let stream = call.stream(stream)?;
        let part = call.part(stream).cloned().ok_or(CUresult::ERROR_ILLEGAL_STATE)?;
        let graph = call.expect_whole(part.capture)?;
        // SAFETY: the caller's promise.
        let mut after = unsafe { nodes_of(call, graph, nodes, data, n) }?;
        if flags == ADD_DEPENDENCIES {
            after.extend(part.after);
            after.sort_unstable();
            after.dedup();
        }
        if let Some(stream) = stream.and_then(|id| call.streams.get_mut(&id)) {
            stream.part = Some(Part::new(part.capture, after));
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn thread_exchange_mode(mode: *mut c_uint) -> CUresult {
    if mode.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the program passes its new mode, and takes the old one.
    match Mode::of(unsafe { mode.read() }) {
        Ok(new) => put(mode, exchange_mode(new) as c_uint).map_or_else(|code| code, |()| CUresult::SUCCESS),
        Err(code) => code,
    }
}
