//! What is alive, and what happens to it when its context ends.

use crate::handle::{Id, token};
use crate::objects::{Graph, Node, NodeWork, Pinned, Pool};
use crate::report::{LiveObject, ObjectKind};
use crate::state::State;

impl State {
    /// What is alive, of one context or of all.
    pub(crate) fn live(&self, only: Option<Id>) -> Vec<LiveObject> {
        let wanted = |context: Id| only.is_none_or(|id| id == context);
        let device = |context: Id| self.contexts.get(&context).map_or(0, |c| c.device);
        let mut live = Vec::new();
        let memory = self.allocations.iter().filter(|(_, a)| wanted(a.context) && !a.freeing);
        live.extend(memory.map(|(address, a)| LiveObject {
            kind: ObjectKind::DeviceMemory,
            address: *address,
            bytes: a.bytes,
            device: a.device,
            made_by_call: Some(a.made_by),
        }));
        let pinned = self.pinned.iter().filter(|(_, p)| wanted(p.context));
        live.extend(pinned.map(|(address, p)| LiveObject {
            kind: match p.layout {
                Some(_) if p.managed => ObjectKind::ManagedMemory,
                Some(_) => ObjectKind::PinnedMemory,
                None => ObjectKind::RegisteredMemory,
            },
            address: *address as u64,
            bytes: p.bytes as u64,
            device: device(p.context),
            made_by_call: Some(p.made_by),
        }));
        let mut objects = |kind, ids: Vec<(Id, Id)>| {
            live.extend(ids.into_iter().filter(|(_, context)| wanted(*context)).map(|(id, context)| {
                LiveObject {
                    kind,
                    address: token(self.serial, id).addr() as u64,
                    bytes: 0,
                    device: device(context),
                    made_by_call: self.made_by.get(&id).copied(),
                }
            }));
        };
        let owned = |id: &Id| !self.thread_streams.values().any(|stream| stream == id);
        let streams = self.streams.iter().filter(|(id, _)| owned(id));
        objects(ObjectKind::Stream, streams.map(|(id, o)| (*id, o.context)).collect());
        objects(ObjectKind::Event, self.events.iter().map(|(id, o)| (*id, o.context)).collect());
        let modules = self.modules.iter().filter(|(_, module)| module.library.is_none());
        objects(ObjectKind::Module, modules.map(|(id, o)| (*id, o.context)).collect());
        let graphs = self.graphs.iter().filter(|(_, graph)| !graph.embedded);
        objects(ObjectKind::Graph, graphs.map(|(id, o)| (*id, o.context)).collect());
        objects(ObjectKind::GraphExec, self.execs.iter().map(|(id, o)| (*id, o.context)).collect());
        if only.is_none() {
            let contexts = self.contexts.iter().filter(|(_, c)| c.alive);
            objects(ObjectKind::Context, contexts.map(|(id, _)| (*id, *id)).collect());
            let own = |id: &Id| !self.devices.iter().any(|device| device.default_pool == *id);
            let pools = self.pools.iter().filter(|(id, _)| own(id));
            let primary = |pool: &Pool| self.devices.get(pool.device as usize).map_or(0, |d| d.primary);
            objects(ObjectKind::Library, self.libraries.keys().map(|id| (*id, 0)).collect());
            objects(ObjectKind::MemoryPool, pools.map(|(id, pool)| (*id, primary(pool))).collect());
        }
        live
    }

    /// Ends a context: what is left in it is a leak, and goes.
    pub(crate) fn end_context(&mut self, id: Id) -> Vec<LiveObject> {
        self.queue.cancel(id, self.now_ns);
        let leaks = self.live(Some(id));
        let allocations: Vec<u64> =
            self.allocations.iter().filter(|(_, a)| a.context == id).map(|(address, _)| *address).collect();
        for address in allocations {
            self.forget_allocation(address);
            // The map held it, so it was allocated and not freed; a free that was queued is cancelled.
            let _ = self.memory.free(address);
        }
        let pinned: Vec<usize> =
            self.pinned.iter().filter(|(_, p)| p.context == id).map(|(address, _)| *address).collect();
        for address in pinned {
            self.forget_pinned(address);
        }
        self.streams.retain(|_, o| o.context != id);
        self.thread_streams.retain(|(context, _), _| *context != id);
        self.captures.retain(|_, o| o.context != id);
        self.events.retain(|_, o| o.context != id);
        self.modules.retain(|_, o| o.context != id);
        self.functions.retain(|_, o| o.context != id);
        for library in self.libraries.values_mut() {
            library.modules.remove(&id);
        }
        let execs: Vec<Id> = self.execs.iter().filter(|(_, e)| e.context == id).map(|(id, _)| *id).collect();
        for exec in execs {
            self.remove_exec(exec);
        }
        let graphs: Vec<Id> =
            self.graphs.iter().filter(|(_, g)| g.context == id).map(|(id, _)| *id).collect();
        for graph in graphs {
            self.remove_graph(graph);
        }
        for context in self.contexts.values_mut() {
            context.peers.remove(&id);
        }
        if let Some(context) = self.contexts.get_mut(&id) {
            context.alive = false;
            context.sticky = None;
            context.legacy = None;
            context.peers.clear();
            if !context.primary {
                self.contexts.remove(&id);
            }
        }
        self.log.leaks.extend(leaks.iter().cloned());
        leaks
    }

    /// Takes host memory away from the devices, and frees it if the driver allocated it.
    pub(crate) fn forget_pinned(&mut self, address: usize) -> Option<Pinned> {
        let pinned = self.pinned.remove(&address)?;
        // Where mapping it failed there is nothing to unmap.
        let _ = self.memory.unmap_host(address as u64);
        if let Some(layout) = pinned.layout {
            // SAFETY: the address came from `alloc_zeroed` with this layout, and the map no longer holds it.
            unsafe { std::alloc::dealloc(std::ptr::with_exposed_provenance_mut(address), layout) };
        }
        Some(pinned)
    }

    /// Removes a module with its functions. What is queued of them keeps its code.
    pub(crate) fn remove_module(&mut self, id: Id) {
        let Some(module) = self.modules.remove(&id) else { return };
        for function in module.functions.values() {
            self.functions.remove(function);
        }
    }

    /// Removes a graph with its nodes, their graphs, and its conditions.
    pub(crate) fn remove_graph(&mut self, id: Id) -> Option<Graph> {
        let graph = self.graphs.remove(&id)?;
        for node in &graph.nodes {
            self.remove_node(*node);
        }
        self.conditions.retain(|_, condition| condition.graph != id);
        self.release_objects(graph.objects.clone());
        Some(graph)
    }

    /// Removes a node with its graph. The graph that it is in is the caller's to change.
    pub(crate) fn remove_node(&mut self, id: Id) -> Option<Node> {
        let node = self.nodes.remove(&id)?;
        match &node.work {
            NodeWork::Single(_) => {}
            NodeWork::Child(child) => {
                self.remove_graph(*child);
            }
            NodeWork::While { condition, body, .. } => {
                self.remove_graph(*body);
                if let Some(condition) = self.conditions.get_mut(condition) {
                    condition.node = None;
                }
            }
        }
        Some(node)
    }
}
