//! Stream capture: a stream that notes its work in a graph instead of queueing it.
//!
//! A capture begins in one stream. Another takes part from the moment at which it waits for an event that was recorded
//! in the first, until the capture ends. A call that cannot be captured breaks the capture: everything that takes part in
//! it fails from then on, and its end gives no graph.

use std::cell::Cell;
use std::sync::Arc;
use std::thread::ThreadId;

use gpu_driver::sys::*;

use crate::api::graph::new_graph;
use crate::call::{Call, Outcome};
use crate::handle::Id;
use crate::objects::{ExecBody, ExecWork, Node, NodeWork, Stream};
use crate::queue::Marker;
use crate::state::State;
use crate::work::Work;

/// `CUstreamCaptureMode`: which calls that would disturb a capture are refused, and on which threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Global,
    ThreadLocal,
    Relaxed,
}

impl Mode {
    pub(crate) fn of(number: u32) -> Outcome<Self> {
        match number {
            0 => Ok(Self::Global),
            1 => Ok(Self::ThreadLocal),
            2 => Ok(Self::Relaxed),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    }
}

thread_local! {
    /// How careful this thread has to be: see `cuThreadExchangeStreamCaptureMode`.
    static MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

/// Changes the mode of this thread.
pub(crate) fn exchange_mode(mode: Mode) -> Mode {
    MODE.replace(mode)
}

/// A capture that has not ended.
pub(crate) struct Capture {
    pub context: Id,
    pub graph: Id,
    /// The graph is the program's, and stays whatever becomes of the capture.
    pub into_existing: bool,
    /// The stream in which it began, and in which it ends.
    pub origin: Id,
    pub mode: Mode,
    pub thread: ThreadId,
    pub broken: bool,
}

/// What a stream or an event knows of the capture that it takes part in.
#[derive(Clone)]
pub(crate) struct Part {
    pub capture: Id,
    /// What its next node follows.
    pub after: Vec<Id>,
    /// The handles of these, where the program last read them.
    pub told: Arc<[CUgraphNode]>,
}

impl Part {
    pub(crate) fn new(capture: Id, after: Vec<Id>) -> Self {
        Self { capture, after, told: Arc::new([]) }
    }
}

impl State {
    pub(crate) fn break_captures(&mut self, broken: impl Fn(&Capture) -> bool) -> bool {
        let mut any = false;
        for capture in self.captures.values_mut().filter(|capture| broken(capture)) {
            capture.broken = true;
            any = true;
        }
        any
    }

    pub(crate) fn break_capture(&mut self, id: Id) {
        if let Some(capture) = self.captures.get_mut(&id) {
            capture.broken = true;
        }
    }

    /// Ends a capture: its streams queue their work again. What is left is its graph.
    pub(crate) fn end_capture(&mut self, id: Id) -> Option<Capture> {
        for stream in self.streams.values_mut() {
            stream.part.take_if(|part| part.capture == id);
        }
        self.captures.remove(&id)
    }

    /// Whether a stream of the context that is ordered with the legacy default stream is captured.
    pub(crate) fn legacy_is_captured(&self, context: Id) -> bool {
        self.streams.values().any(|stream| entangled(stream, context))
    }
}

fn entangled(stream: &Stream, context: Id) -> bool {
    stream.context == context && stream.blocking && stream.part.is_some()
}

impl Call<'_> {
    /// The part that a stream has in a capture.
    pub(crate) fn part(&self, stream: Option<Id>) -> Option<&Part> {
        self.streams.get(&stream?)?.part.as_ref()
    }

    /// Refuses what the legacy default stream must not do while a stream that is ordered with it is captured.
    pub(crate) fn expect_free_legacy(&mut self) -> Outcome {
        let context = self.context;
        let state = &mut *self.state;
        let entangled = state.streams.values().filter(|stream| entangled(stream, context));
        let captures: Vec<Id> = entangled.filter_map(|s| s.part.as_ref()).map(|part| part.capture).collect();
        for id in &captures {
            state.break_capture(*id);
        }
        if captures.is_empty() { Ok(()) } else { Err(CUresult::ERROR_STREAM_CAPTURE_IMPLICIT) }
    }

    /// Refuses a call that waits for a stream, or asks about it, while it is captured.
    pub(crate) fn expect_uncaptured(&mut self, stream: Option<Id>) -> Outcome {
        match self.part(stream).map(|part| part.capture) {
            None if stream.is_none() => self.expect_free_legacy(),
            None => Ok(()),
            Some(id) => {
                self.state.break_capture(id);
                Err(CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED)
            }
        }
    }

    /// Refuses a call that may wait for the device, such as an allocation, where the modes of this thread and of the
    /// captures say so.
    pub(crate) fn expect_careless(&mut self) -> Outcome {
        let (mode, thread) = (MODE.get(), std::thread::current().id());
        let disturbed = |capture: &Capture| match (mode, capture.mode) {
            (Mode::Relaxed, _) | (_, Mode::Relaxed) => false,
            (Mode::Global, Mode::Global) => true,
            _ => capture.thread == thread,
        };
        match self.state.break_captures(disturbed) {
            true => Err(CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED),
            false => Ok(()),
        }
    }

    /// Queues work in a stream, or adds it to the graph to which the stream is captured: then nothing is to be waited
    /// for.
    pub(crate) fn submit(
        &mut self,
        stream: Option<Id>,
        work: Work,
        programmatic: bool,
    ) -> Outcome<Option<Arc<Marker>>> {
        if let Some(part) = self.part(stream).cloned() {
            self.note(stream, &part, NodeWork::Single(work), programmatic)?;
            return Ok(None);
        }
        if stream.is_none() {
            self.expect_free_legacy()?;
        }
        let context = self.context_of(stream);
        let marker = self.state.queue_in(context, stream, Vec::new(), work, programmatic)?;
        self.sim.relieve(&mut self.state);
        Ok(Some(marker))
    }

    /// Adds a node behind what the stream has noted so far.
    pub(crate) fn note(
        &mut self,
        stream: Option<Id>,
        part: &Part,
        work: NodeWork,
        programmatic: bool,
    ) -> Outcome {
        let graph = self.expect_whole(part.capture)?;
        let node = self.new_id()?;
        let is_kernel = |node: &Id| {
            matches!(self.nodes.get(node), Some(Node { work: NodeWork::Single(Work::Kernel(_)), .. }))
        };
        // As in a stream, only a kernel that comes alone is overtaken.
        let overtakes = programmatic && part.after.len() == 1 && part.after.iter().all(is_kernel);
        let data = if overtakes {
            CUgraphEdgeData {
                kind: CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC,
                from_port: CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC,
                ..CUgraphEdgeData::default()
            }
        } else {
            CUgraphEdgeData::default()
        };
        self.nodes.insert(node, Node { graph, work });
        if let Some(graph) = self.graphs.get_mut(&graph) {
            graph.nodes.push(node);
            graph.edges.extend(part.after.iter().map(|before| (*before, node, data)));
        }
        if let Some(stream) = stream.and_then(|id| self.streams.get_mut(&id)) {
            stream.part = Some(Part::new(part.capture, vec![node]));
        }
        Ok(())
    }

    /// The graph of a capture, unless that is broken.
    pub(crate) fn expect_whole(&self, capture: Id) -> Outcome<Id> {
        let whole = self.captures.get(&capture).filter(|capture| !capture.broken);
        whole.map(|capture| capture.graph).ok_or(CUresult::ERROR_STREAM_CAPTURE_INVALIDATED)
    }

    /// Refuses what this driver cannot note in a graph.
    pub(crate) fn expect_capturable(&mut self, stream: Option<Id>) -> Outcome {
        match self.part(stream).map(|part| part.capture) {
            None => Ok(()),
            Some(id) => {
                self.state.break_capture(id);
                Err(CUresult::ERROR_NOT_SUPPORTED)
            }
        }
    }

    /// Makes `stream` wait for what an event was recorded behind, where one of both is captured. Says whether it did.
    pub(crate) fn join(&mut self, stream: Option<Id>, event: Id) -> Outcome<bool> {
        let event = self.events.get(&event).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        let recorded = event.recorded.is_some();
        match (self.part(stream).cloned(), event.part.clone()) {
            (None, None) => Ok(false),
            // An event that was never recorded is nothing to wait for.
            (Some(own), None) if !recorded => self.expect_whole(own.capture).map(|_| true),
            (Some(own), None) => {
                self.state.break_capture(own.capture);
                Err(CUresult::ERROR_STREAM_CAPTURE_ISOLATION)
            }
            (None, Some(other)) => {
                if !self.captures.contains_key(&other.capture) {
                    return Err(CUresult::ERROR_CAPTURED_EVENT);
                }
                self.expect_whole(other.capture)?;
                let Some(joined) = stream.and_then(|id| self.streams.get_mut(&id)) else {
                    self.state.break_capture(other.capture);
                    return Err(CUresult::ERROR_STREAM_CAPTURE_IMPLICIT);
                };
                joined.part = Some(other);
                Ok(true)
            }
            (Some(mut own), Some(other)) => {
                self.expect_whole(own.capture)?;
                if own.capture != other.capture {
                    self.state.break_capture(own.capture);
                    self.state.break_capture(other.capture);
                    return Err(CUresult::ERROR_STREAM_CAPTURE_MERGE);
                }
                own.after.extend(other.after);
                own.after.sort_unstable();
                own.after.dedup();
                if let Some(stream) = stream.and_then(|id| self.streams.get_mut(&id)) {
                    stream.part = Some(own);
                }
                Ok(true)
            }
        }
    }

    /// A graph with the nodes of an instantiated one, for a child node.
    pub(crate) fn graph_of(&mut self, body: &ExecBody) -> Outcome<Id> {
        let graph = new_graph(self, true, None)?;
        let mut nodes = Vec::with_capacity(body.nodes.len());
        for node in &body.nodes {
            let work = match &node.work {
                ExecWork::Single(work) => Ok(NodeWork::Single(work.clone())),
                ExecWork::Child(child) => self.graph_of(child).map(NodeWork::Child),
                // A condition has one node.
                ExecWork::While(..) => Err(CUresult::ERROR_NOT_SUPPORTED),
            };
            let added = work.and_then(|work| Ok((self.new_id()?, work)));
            match added {
                Ok((id, work)) => {
                    self.nodes.insert(id, Node { graph, work });
                    nodes.push(id);
                }
                Err(code) => {
                    self.remove_graph(graph);
                    nodes.iter().for_each(|node| drop(self.remove_node(*node)));
                    return Err(code);
                }
            }
        }
        if let Some(graph) = self.graphs.get_mut(&graph) {
            graph.edges =
                body.edges.iter().map(|(from, to, data)| (nodes[*from], nodes[*to], *data)).collect();
            graph.nodes = nodes;
        }
        Ok(graph)
    }
}
