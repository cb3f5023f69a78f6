//! Everything of one driver that changes, and the rules of its streams.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::ThreadId;

use gpu_driver::sys::{CUdeviceptr, CUgraphConditionalHandle, CUresult};
use ptx_builder::interp::{Finding, Memory};

use crate::call::Outcome;
use crate::capture::Capture;
use crate::config::SimConfig;
use crate::fault::Faults;
use crate::handle::{Handle, Id, LAST};
use crate::objects::{
    Allocation, Condition, Context, Device, Event, Exec, Function, Graph, Library, LibraryKernel, Link,
    Module, Node, Pinned, Pool, Stream, UserObject,
};
use crate::profile::DeviceProfile;
use crate::queue::{Dependency, Marker, Queue};
use crate::random::Random;
use crate::report::{Call, CallCount, LaunchRecord, LiveObject};
use crate::work::{HostFunction, Work};

/// Most calls and launches that are kept one by one; counts go on.
const MOST_RECORDS: usize = 1 << 20;

/// Everything of one driver that changes.
pub(crate) struct State {
    pub serial: u32,
    pub initialised: bool,
    last_id: Id,
    /// Of all devices, so that addresses are unique as in a unified address space. Kernels are not kept from memory
    /// of another device.
    pub memory: Memory,
    pub devices: Vec<Device>,
    pub contexts: BTreeMap<Id, Context>,
    pub streams: BTreeMap<Id, Stream>,
    /// Default streams of threads, by context. The program does not own them.
    pub thread_streams: HashMap<(Id, ThreadId), Id>,
    pub captures: BTreeMap<Id, Capture>,
    pub events: BTreeMap<Id, Event>,
    pub modules: BTreeMap<Id, Module>,
    pub functions: BTreeMap<Id, Function>,
    pub libraries: BTreeMap<Id, Library>,
    pub kernels: BTreeMap<Id, LibraryKernel>,
    pub links: BTreeMap<Id, Link>,
    pub user_objects: BTreeMap<Id, UserObject>,
    /// Destructors to be run at the end of the call.
    pub doomed: Vec<HostFunction>,
    pub graphs: BTreeMap<Id, Graph>,
    pub nodes: BTreeMap<Id, Node>,
    pub conditions: BTreeMap<CUgraphConditionalHandle, Condition>,
    pub execs: BTreeMap<Id, Exec>,
    pub pools: BTreeMap<Id, Pool>,
    pub allocations: BTreeMap<CUdeviceptr, Allocation>,
    pub pinned: BTreeMap<usize, Pinned>,
    /// Which call made an object.
    pub made_by: BTreeMap<Id, u64>,
    pub queue: Queue,
    pub random: Random,
    pub faults: Faults,
    /// An operation is being executed.
    pub running: bool,
    /// Simulated time of the host.
    pub now_ns: u64,
    pub log: Log,
}

/// What happened so far.
#[derive(Default)]
pub(crate) struct Log {
    pub calls: Vec<Call>,
    pub counts: Vec<CallCount>,
    pub n_calls: u64,
    pub launches: Vec<LaunchRecord>,
    pub n_launches: u64,
    pub findings: Vec<Finding>,
    pub faults: Vec<String>,
    pub leaks: Vec<LiveObject>,
    pub bytes_copied: u64,
    pub instructions: u64,
    pub peak_memory: u64,
    pub printed: String,
}

impl Log {
    pub(crate) fn call(&mut self, name: &'static str, detail: String) {
        self.n_calls += 1;
        match self.counts.iter_mut().find(|count| count.name == name) {
            Some(count) => count.count += 1,
            None => self.counts.push(CallCount { name, count: 1 }),
        }
        if self.calls.len() < MOST_RECORDS {
            self.calls.push(Call { name, detail, ok: true });
        }
    }

    pub(crate) fn launch(&mut self, record: LaunchRecord) {
        self.n_launches += 1;
        if self.launches.len() < MOST_RECORDS {
            self.launches.push(record);
        }
    }
}

impl State {
    pub(crate) fn new(serial: u32, config: &SimConfig, profile: &DeviceProfile) -> Self {
        let mut state = Self {
            serial,
            initialised: false,
            last_id: 0,
            memory: Memory::new(),
            devices: Vec::new(),
            contexts: BTreeMap::new(),
            streams: BTreeMap::new(),
            thread_streams: HashMap::new(),
            captures: BTreeMap::new(),
            events: BTreeMap::new(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            libraries: BTreeMap::new(),
            kernels: BTreeMap::new(),
            links: BTreeMap::new(),
            user_objects: BTreeMap::new(),
            doomed: Vec::new(),
            graphs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            conditions: BTreeMap::new(),
            execs: BTreeMap::new(),
            pools: BTreeMap::new(),
            allocations: BTreeMap::new(),
            pinned: BTreeMap::new(),
            made_by: BTreeMap::new(),
            queue: Queue::default(),
            random: Random::new(config.seed),
            faults: Faults::default(),
            running: false,
            now_ns: 0,
            log: Log::default(),
        };
        for fault in &config.faults {
            state.faults.add(fault.clone());
        }
        for device in 0..config.devices {
            // A driver begins with two objects for each device at most, so numbers do not run out.
            let (primary, pool) = (2 * device + 1, 2 * device + 2);
            state.last_id = pool;
            state.contexts.insert(primary, Context::new(device, true, 0));
            state.pools.insert(pool, Pool::new(device));
            state.devices.push(Device {
                limit: config.memory_limit.unwrap_or(profile.memory).min(profile.memory),
                used: 0,
                primary,
                retained: 0,
                primary_flags: 0,
                pool,
                default_pool: pool,
            });
        }
        state
    }

    /// A number for a new object.
    pub(crate) fn new_id(&mut self) -> Outcome<Id> {
        if self.last_id == LAST {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        self.last_id += 1;
        self.made_by.insert(self.last_id, self.log.n_calls);
        Ok(self.last_id)
    }

    /// The handle of an object.
    pub(crate) fn handle<H: Handle>(&self, id: Id) -> H {
        H::make(self.serial, id)
    }

    /// The number in a handle of this driver.
    pub(crate) fn id_of<H: Handle>(&self, handle: H) -> Outcome<Id> {
        handle.id(self.serial).ok_or(CUresult::ERROR_INVALID_HANDLE)
    }

    /// Whether the address range is in pinned or registered host memory.
    pub(crate) fn pinned_at(&self, address: usize, bytes: usize) -> Option<(usize, &Pinned)> {
        let (start, pinned) = self.pinned.range(..=address).next_back()?;
        let end = address.checked_add(bytes)?;
        (end <= start + pinned.bytes && address < start + pinned.bytes.max(1)).then_some((*start, pinned))
    }

    /// The allocation that holds the address range.
    pub(crate) fn allocation_at(&self, address: u64, bytes: u64) -> Option<(u64, &Allocation)> {
        let (start, allocation) = self.allocations.range(..=address).next_back()?;
        let end = address.checked_add(bytes)?;
        (end <= start + allocation.bytes && address < start + allocation.bytes)
            .then_some((*start, allocation))
    }

    /// Queues work in a stream, after what the stream's rules say and after `more`.
    pub(crate) fn queue_in(
        &mut self,
        context: Id,
        stream: Option<Id>,
        more: Vec<Dependency>,
        work: Work,
        programmatic: bool,
    ) -> Outcome<Arc<Marker>> {
        let mut after = more;
        let mut pending = Vec::new();
        let legacy = self.contexts.get(&context).and_then(|c| c.legacy.clone());
        match stream {
            None => {
                after.extend(legacy.map(Dependency::full));
                let blocking = self.streams.values().filter(|s| s.context == context && s.blocking);
                after.extend(blocking.filter_map(|s| s.tail.clone()).map(Dependency::full));
            }
            Some(id) => {
                let stream = self.streams.get(&id).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
                let overtakes = programmatic && stream.tail_is_kernel;
                if let Some(marker) = stream.tail.clone() {
                    pending.push(Dependency { marker, programmatic: overtakes });
                }
                after.extend(legacy.filter(|_| stream.blocking).map(Dependency::full));
            }
        }
        after.extend(pending);
        let is_kernel = matches!(work, Work::Kernel(_));
        let marker = self.queue.push(context, after, work, self.now_ns);
        self.set_tail(context, stream, &marker, is_kernel);
        Ok(marker)
    }

    /// Makes `marker` the end of a stream.
    pub(crate) fn set_tail(
        &mut self,
        context: Id,
        stream: Option<Id>,
        marker: &Arc<Marker>,
        is_kernel: bool,
    ) {
        match stream {
            None => {
                if let Some(context) = self.contexts.get_mut(&context) {
                    context.legacy = Some(Arc::clone(marker));
                }
            }
            Some(id) => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.tail = Some(Arc::clone(marker));
                    stream.tail_is_kernel = is_kernel;
                }
            }
        }
    }

    /// What has to end before a stream is idle.
    pub(crate) fn tails(&self, context: Id, stream: Option<Id>) -> Vec<Arc<Marker>> {
        match stream {
            Some(id) => self.streams.get(&id).and_then(|s| s.tail.clone()).into_iter().collect(),
            None => {
                let legacy = self.contexts.get(&context).and_then(|c| c.legacy.clone());
                let blocking = self.streams.values().filter(|s| s.context == context && s.blocking);
                legacy.into_iter().chain(blocking.filter_map(|s| s.tail.clone())).collect()
            }
        }
    }

    /// Whether a context is there and has met no fault.
    pub(crate) fn is_usable(&self, context: Id) -> bool {
        self.contexts.get(&context).is_some_and(|c| c.alive && c.sticky.is_none())
    }

    /// When the last operation of a context ended, so far.
    pub(crate) fn latest(&self, context: Id) -> u64 {
        self.contexts.get(&context).map_or(0, |c| c.latest_ns)
    }

    /// An operation of a context ended.
    pub(crate) fn note_end(&mut self, context: Id, end_ns: u64) {
        if let Some(context) = self.contexts.get_mut(&context) {
            context.latest_ns = context.latest_ns.max(end_ns);
        }
    }

    /// Counts an allocation against its device's limit.
    pub(crate) fn charge(&mut self, device: u32, bytes: u64) -> Outcome {
        let total: u64 = self.devices.iter().map(|d| d.used).sum::<u64>() + bytes;
        let device = self.devices.get_mut(device as usize).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
        if bytes > device.limit - device.used.min(device.limit) {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        device.used += bytes;
        self.log.peak_memory = self.log.peak_memory.max(total);
        Ok(())
    }

    pub(crate) fn refund(&mut self, device: u32, bytes: u64) {
        if let Some(device) = self.devices.get_mut(device as usize) {
            device.used = device.used.saturating_sub(bytes);
        }
    }

    /// Forgets an allocation. Its memory is the caller's to free.
    pub(crate) fn forget_allocation(&mut self, address: u64) -> Option<Allocation> {
        let allocation = self.allocations.remove(&address)?;
        self.refund(allocation.device, allocation.bytes);
        if let Some(pool) = allocation.pool.and_then(|id| self.pools.get_mut(&id)) {
            pool.used = pool.used.saturating_sub(allocation.bytes);
        }
        Some(allocation)
    }
}
