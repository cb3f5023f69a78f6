//! User objects: what a program wants destroyed when the last graph that refers to it is gone.

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_void};

use gpu_driver::sys::*;

use crate::api::graph::known_graph;
use crate::call::{Outcome, any_driver, in_context, name, on_driver, put, releasing, releasing_on_driver};
use crate::handle::{CUuserObject, Handle, Id};
use crate::objects::UserObject;
use crate::registry;
use crate::state::State;
use crate::work::{HostCall, HostFunction, Work};

/// The only flag of `cuUserObjectCreate`, which has to be given: nothing may wait for the destructor.
const NO_DESTRUCTOR_SYNC: c_uint = 1;
/// Flag of `cuGraphRetainUserObject`: the references are the caller's.
const MOVE: c_uint = 1;

/// The references that something has to user objects.
pub(crate) type References = BTreeMap<Id, u64>;

impl State {
    /// Gives references to an object back. Without any left its destructor runs after `after`, or when the call ends.
    pub(crate) fn release_object(&mut self, id: Id, count: u64) {
        let Some(object) = self.user_objects.get_mut(&id) else { return };
        object.references = object.references.saturating_sub(count);
        if object.references == 0 {
            let destructor = object.destructor;
            self.user_objects.remove(&id);
            self.doomed.push(destructor);
        }
    }

    pub(crate) fn release_objects(&mut self, references: References) {
        for (id, count) in references {
            self.release_object(id, count);
        }
    }

    /// More references to objects, such as those of a copy of a graph.
    pub(crate) fn retain_objects(&mut self, references: &References) {
        for (id, count) in references {
            if let Some(object) = self.user_objects.get_mut(id) {
                object.references += count;
            }
        }
    }
}

fn known(state: &State, object: CUuserObject) -> Outcome<Id> {
    let id = state.id_of(object).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    if state.user_objects.contains_key(&id) { Ok(id) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

pub(crate) unsafe extern "C" fn create(
    object: *mut CUuserObject,
    data: *mut c_void,
    destroy: Option<extern "C" fn(*mut c_void)>,
    count: c_uint,
    flags: c_uint,
) -> CUresult {
    on_driver(any_driver(), name!("cuUserObjectCreate", "{count}"), true, |_, state| {
        let destroy = destroy.filter(|_| count > 0 && flags == NO_DESTRUCTOR_SYNC && !object.is_null());
        let destroy = destroy.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let destructor = HostFunction { function: HostCall::Plain(destroy), data: data.expose_provenance() };
        let id = state.new_id()?;
        state.user_objects.insert(id, UserObject { references: count.into(), destructor });
        put(object, state.handle(id))
    })
}

pub(crate) unsafe extern "C" fn retain(object: CUuserObject, count: c_uint) -> CUresult {
    let Some(sim) = object.serial().and_then(registry::find) else { return CUresult::ERROR_INVALID_VALUE };
    on_driver(Some(sim), name!("cuUserObjectRetain", "{count}"), true, |_, state| {
        let id = known(state, object)?;
        if count == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        state.retain_objects(&References::from([(id, count.into())]));
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn release(object: CUuserObject, count: c_uint) -> CUresult {
    let Some(sim) = object.serial().and_then(registry::find) else { return CUresult::ERROR_INVALID_VALUE };
    releasing_on_driver(Some(sim), name!("cuUserObjectRelease", "{count}"), |_, state| {
        let id = known(state, object)?;
        if count == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        state.release_object(id, count.into());
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn graph_retain(
    graph: CUgraph,
    object: CUuserObject,
    count: c_uint,
    flags: c_uint,
) -> CUresult {
    in_context(name!("cuGraphRetainUserObject", "{count}, {flags}"), |call| {
        let (graph, object) = (known_graph(&call.state, graph)?, known(&call.state, object)?);
        if count == 0 || flags & !MOVE != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let references = References::from([(object, count.into())]);
        if flags & MOVE == 0 {
            call.retain_objects(&references);
        }
        if let Some(graph) = call.graphs.get_mut(&graph) {
            *graph.objects.entry(object).or_default() += u64::from(count);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn graph_release(
    graph: CUgraph,
    object: CUuserObject,
    count: c_uint,
) -> CUresult {
    releasing(name!("cuGraphReleaseUserObject", "{count}"), |call| {
        let (graph, object) = (known_graph(&call.state, graph)?, known(&call.state, object)?);
        let held = call.graphs.get_mut(&graph).and_then(|graph| graph.objects.get_mut(&object));
        match held {
            Some(held) if count > 0 && *held >= u64::from(count) => *held -= u64::from(count),
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        }
        call.release_object(object, count.into());
        Ok(())
    })
}

impl State {
    /// Gives up an instantiated graph. Its objects are there until what is queued of it has run.
    pub(crate) fn remove_exec(&mut self, id: Id) {
        let Some(exec) = self.execs.remove(&id) else { return };
        let before = self.doomed.len();
        self.release_objects(exec.objects);
        if let Some(last) = exec.last.filter(|last| !last.is_done()) {
            let mut after = last;
            for destructor in self.doomed.split_off(before) {
                let dependency = crate::queue::Dependency::full(after);
                after = self.queue.push(exec.context, vec![dependency], Work::Host(destructor), self.now_ns);
            }
        }
    }
}
