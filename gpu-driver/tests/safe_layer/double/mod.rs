//! A driver made of Rust functions, for tests of the safe layer: it keeps the driver's rules that matter here (contexts
//! must be current, handles must be alive, edge data as driver 580 treats it), holds device memory in host memory,
//! records every call, and fails on request.
//!
//! The functions find their state through the thread, because `extern "C"` functions carry none. A test that uses
//! another thread calls [`Double::enter`] there.

mod core;
mod graphs;
mod launches;
mod memory;
mod modules;
mod streams;
mod table;

use gpu_driver::Driver;
use gpu_driver::sys::{CUcontext, CUgraphEdgeData, CUresult, DriverTable};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard};

thread_local! {
    static STATE: RefCell<Option<Arc<Mutex<State>>>> = const { RefCell::new(None) };
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// A kernel node or launch, as the double received it.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    pub function: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub args: Vec<Vec<u8>>,
    pub attributes: Vec<(u32, [u32; 3])>,
}

#[derive(Debug, Clone)]
pub enum Work {
    Kernel(Launch),
    Copy { dst: Address, src: Address, bytes: usize },
    Fill { dst: u64, value: u32, element: u32, width: usize },
    Nothing,
    Child(Vec<Work>),
}

#[derive(Debug, Clone, Copy)]
pub enum Address {
    Device(u64),
    Host(usize),
}

#[derive(Default)]
pub struct GraphModel {
    pub nodes: Vec<usize>,
    pub edges: Vec<(usize, usize, CUgraphEdgeData)>,
}

pub struct ExecModel {
    pub nodes: Vec<(usize, Work)>,
}

pub struct FunctionModel {
    pub module: usize,
    pub name: String,
    pub parameters: Vec<usize>,
    pub static_shared: i32,
    pub max_dynamic: i32,
}

/// Everything that the double knows.
pub struct State {
    pub calls: Vec<String>,
    failures: HashMap<&'static str, VecDeque<CUresult>>,
    pub version: i32,
    pub devices: u32,
    pub initialised: bool,
    /// References to each device's primary context.
    pub retained: BTreeMap<u32, usize>,
    /// The error that every call returns from now on.
    pub sticky: Option<CUresult>,
    /// While set, queries say that work is unfinished. Waiting clears it.
    pub busy: bool,
    pub allocations: BTreeMap<u64, Allocation>,
    pub pinned: HashMap<usize, usize>,
    pub streams: HashMap<usize, i32>,
    pub events: HashMap<usize, EventModel>,
    pub modules: HashMap<usize, String>,
    pub jit_options: Vec<(u32, usize)>,
    pub functions: HashMap<usize, FunctionModel>,
    pub graphs: HashMap<usize, GraphModel>,
    pub nodes: HashMap<usize, Work>,
    pub execs: HashMap<usize, ExecModel>,
    pub launches: Vec<Launch>,
    /// Edge data is ignored altogether.
    pub edges_lose_data: bool,
    next_handle: usize,
    next_address: u64,
    pub clock: f32,
}

pub struct Allocation {
    pub bytes: usize,
    /// Backing memory; absent for allocations too large to back.
    pub data: Option<Vec<u8>>,
}

#[derive(Default)]
pub struct EventModel {
    pub timed: bool,
    pub at: Option<f32>,
}

/// A test's handle on its double.
#[derive(Clone)]
pub struct Double(Arc<Mutex<State>>);

impl Double {
    /// A double with two devices, current on this thread.
    pub fn new() -> Self {
        let double = Self(Arc::new(Mutex::new(State {
            calls: Vec::new(),
            failures: HashMap::new(),
            version: 13_000,
            devices: 2,
            initialised: false,
            retained: BTreeMap::new(),
            sticky: None,
            busy: false,
            allocations: BTreeMap::new(),
            pinned: HashMap::new(),
            streams: HashMap::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            jit_options: Vec::new(),
            functions: HashMap::new(),
            graphs: HashMap::new(),
            nodes: HashMap::new(),
            execs: HashMap::new(),
            launches: Vec::new(),
            edges_lose_data: false,
            next_handle: 0x1000,
            next_address: 0x7f00_0000_0000,
            clock: 0.0,
        })));
        double.enter();
        double
    }

    /// Makes this the double of the calling thread, on which no context is current.
    pub fn enter(&self) {
        STATE.set(Some(Arc::clone(&self.0)));
        CURRENT.set(0);
    }

    /// A driver over the full table.
    pub fn driver(&self) -> Driver {
        self.driver_with(|_| {})
    }

    /// A driver over a table that lacks something.
    pub fn driver_with(&self, change: impl FnOnce(&mut DriverTable)) -> Driver {
        let mut table = table::TABLE;
        change(&mut table);
        // SAFETY: the functions of this double write only what they are documented to write and check what they can.
        unsafe { Driver::from_table(table) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a panic in the double")
    }

    /// The next calls of `name` return these codes, one each.
    pub fn fail(&self, name: &'static str, codes: impl IntoIterator<Item = CUresult>) {
        self.state().failures.entry(name).or_default().extend(codes);
    }

    /// Calls since the last look whose text begins with `prefix`.
    pub fn calls(&self, prefix: &str) -> Vec<String> {
        self.state().calls.iter().filter(|c| c.starts_with(prefix)).cloned().collect()
    }

    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    /// What lives: allocations, pinned allocations, streams, events, modules, graphs, instantiated graphs, contexts.
    pub fn live(&self) -> [usize; 8] {
        let s = self.state();
        [
            s.allocations.len(),
            s.pinned.len(),
            s.streams.len(),
            s.events.len(),
            s.modules.len(),
            s.graphs.len(),
            s.execs.len(),
            s.retained.values().sum(),
        ]
    }
}

/// Context that is current on this thread, as the double sees it.
pub fn current_context() -> usize {
    CURRENT.get()
}

pub fn set_current_context(context: usize) {
    CURRENT.set(context);
}

type Outcome = Result<(), CUresult>;

/// Records a call and answers it.
fn answer(name: &'static str, text: String, f: impl FnOnce(&mut State) -> Outcome) -> CUresult {
    let Some(state) = STATE.with_borrow(Clone::clone) else { return CUresult::ERROR_DEINITIALIZED };
    let mut state = state.lock().expect("a panic in the double");
    state.calls.push(format!("{name}({text})"));
    if let Some(code) = state.failures.get_mut(name).and_then(VecDeque::pop_front) {
        if code.is_sticky() {
            state.sticky = Some(code);
        }
        return code;
    }
    match f(&mut state) {
        Ok(()) => CUresult::SUCCESS,
        Err(code) => code,
    }
}

/// Answers a call that needs a current context and that a sticky error prevents.
fn answer_in_context(name: &'static str, text: String, f: impl FnOnce(&mut State) -> Outcome) -> CUresult {
    answer(name, text, |state| {
        if let Some(code) = state.sticky {
            return Err(code);
        }
        let device = CURRENT.get().checked_sub(core::CONTEXT_BASE).and_then(|d| u32::try_from(d).ok());
        let retained = device.and_then(|d| state.retained.get(&d)).is_some_and(|&n| n > 0);
        if retained { f(state) } else { Err(CUresult::ERROR_INVALID_CONTEXT) }
    })
}

impl State {
    fn handle(&mut self) -> usize {
        self.next_handle += 0x10;
        self.next_handle
    }

    /// Device memory behind an address, from there to the end of its allocation.
    fn device(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], CUresult> {
        let (start, allocation) =
            self.allocations.range_mut(..=address).next_back().ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let offset = usize::try_from(address - start).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        if offset.checked_add(bytes).is_none_or(|end| end > allocation.bytes) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        match &mut allocation.data {
            Some(data) => Ok(&mut data[offset..offset + bytes]),
            None => Ok(&mut []),
        }
    }

    fn copy(&mut self, dst: Address, src: Address, bytes: usize) -> Outcome {
        let data = match src {
            Address::Device(a) => self.device(a, bytes)?.to_vec(),
            // SAFETY: the safe layer promises that host addresses of copies are readable for their length.
            Address::Host(p) => unsafe { std::slice::from_raw_parts(p as *const u8, bytes) }.to_vec(),
        };
        match dst {
            Address::Device(a) => {
                let out = self.device(a, bytes)?;
                let n = out.len().min(data.len());
                out[..n].copy_from_slice(&data[..n]);
            }
            Address::Host(p) => {
                // SAFETY: the safe layer promises that host addresses of copies are writable for their length.
                unsafe { std::slice::from_raw_parts_mut(p as *mut u8, bytes) }.copy_from_slice(&data);
            }
        }
        Ok(())
    }

    fn run(&mut self, work: &Work) -> Outcome {
        match work {
            Work::Kernel(launch) => self.run_kernel(launch),
            Work::Copy { dst, src, bytes } => self.copy(*dst, *src, *bytes),
            Work::Fill { dst, value, element, width } => {
                let out = self.device(*dst, *width * *element as usize)?;
                for chunk in out.chunks_mut(*element as usize) {
                    chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
                }
                Ok(())
            }
            Work::Nothing => Ok(()),
            Work::Child(list) => list.iter().try_for_each(|w| self.run(w)),
        }
    }
}

/// Where an output goes. A null pointer is a bug in the caller.
fn put<T>(out: *mut T, value: T) -> Outcome {
    if out.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: outputs are locals of the safe layer, alive during the call.
    unsafe { out.write(value) };
    Ok(())
}

fn alive<K: std::hash::Hash + Eq, V>(map: &HashMap<K, V>, key: K) -> Outcome {
    if map.contains_key(&key) { Ok(()) } else { Err(CUresult::ERROR_INVALID_HANDLE) }
}

fn token(handle: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(handle)
}

fn context_of(device: u32) -> CUcontext {
    CUcontext(token(core::CONTEXT_BASE + device as usize))
}

/// Nodes in an order that respects the edges.
fn topological(graph: &GraphModel) -> Result<Vec<usize>, CUresult> {
    let mut order = Vec::new();
    let mut done = HashSet::new();
    while order.len() < graph.nodes.len() {
        let ready = graph.nodes.iter().find(|&&n| {
            !done.contains(&n) && graph.edges.iter().filter(|e| e.1 == n).all(|e| done.contains(&e.0))
        });
        let &node = ready.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        done.insert(node);
        order.push(node);
    }
    Ok(order)
}
