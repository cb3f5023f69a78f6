//! What strong accesses pass on: knowledge attached to addresses of global memory.

use super::clocks::Known;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// The knowledge that the strong writes of a launch have published, by address.
#[derive(Debug, Default)]
pub(in crate::interp) struct Objects {
    used: AtomicBool,
    shards: [Mutex<HashMap<u64, Arc<Known>>>; SHARDS],
}

impl Objects {
    fn shard(&self, address: u64) -> MutexGuard<'_, HashMap<u64, Arc<Known>>> {
        self.shards[(address / 4) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to what is known to readers of an address. To be called before the write itself: who reads the value then
    /// finds the knowledge.
    pub(in crate::interp) fn publish(&self, address: u64, known: &Arc<Known>) {
        self.used.store(true, Ordering::Release);
        let mut shard = self.shard(address);
        match shard.get_mut(&address) {
            None => {
                shard.insert(address, Arc::clone(known));
            }
            Some(object) => Known::join(object, known),
        }
    }

    /// What a reader of an address learns. To be called after the read itself.
    pub(in crate::interp) fn learn(&self, address: u64) -> Option<Arc<Known>> {
        if !self.used.load(Ordering::Acquire) {
            return None;
        }
        self.shard(address).get(&address).map(Arc::clone)
    }
}
