//! The drivers of this process: by serial number, which handles contain, and by slot, for the functions without one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::config::SimConfig;
use crate::error::{Result, SimError};
use crate::sim::Sim;

/// How many drivers can be alive at once. Slot 0 is that of the C library's own driver.
pub(crate) const SLOTS: usize = 64;

/// The highest serial number: device handles have room for 23 bits.
const LAST_SERIAL: u32 = (1 << 23) - 1;

static DRIVERS: RwLock<Option<BTreeMap<u32, Arc<Sim>>>> = RwLock::new(None);
static SEATS: Mutex<Option<Seats>> = Mutex::new(None);
static DEFAULT: OnceLock<Option<Arc<Seat>>> = OnceLock::new();

struct Seats {
    /// Slots that nobody has, the one that has been free the longest first: a table that outlives its driver finds its
    /// slot empty for as long as possible.
    free: VecDeque<usize>,
    occupied: BTreeMap<usize, u32>,
    last_serial: u32,
}

impl Seats {
    fn new() -> Self {
        Self { free: (1..SLOTS).collect(), occupied: BTreeMap::new(), last_serial: 0 }
    }
}

/// A driver in its slot. Dropping it takes the driver out of the process: calls that still reach for it get
/// `CUDA_ERROR_DEINITIALIZED`.
pub(crate) struct Seat {
    pub sim: Arc<Sim>,
    pub slot: usize,
}

impl Seat {
    pub(crate) fn take(config: SimConfig) -> Result<Self> {
        Self::take_slot(config, None)
    }

    fn take_slot(config: SimConfig, slot: Option<usize>) -> Result<Self> {
        let mut seats = SEATS.lock();
        let seats = seats.get_or_insert_with(Seats::new);
        if seats.last_serial == LAST_SERIAL {
            return Err(SimError::TooManyDrivers(LAST_SERIAL as usize));
        }
        let serial = seats.last_serial + 1;
        let sim = Arc::new(Sim::new(serial, config, slot == Some(0))?);
        let slot = match slot {
            Some(slot) => slot,
            None => seats.free.pop_front().ok_or(SimError::TooManyDrivers(SLOTS))?,
        };
        seats.last_serial = serial;
        seats.occupied.insert(slot, serial);
        DRIVERS.write().get_or_insert_with(BTreeMap::new).insert(serial, Arc::clone(&sim));
        Ok(Self { sim, slot })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(drivers) = DRIVERS.write().as_mut() {
            drivers.remove(&self.sim.serial);
        }
        if let Some(seats) = SEATS.lock().as_mut() {
            seats.occupied.remove(&self.slot);
            if self.slot != 0 {
                seats.free.push_back(self.slot);
            }
        }
    }
}

/// The driver with a serial number, while it is alive.
pub(crate) fn find(serial: u32) -> Option<Arc<Sim>> {
    DRIVERS.read().as_ref()?.get(&serial).cloned()
}

/// The driver in a slot. The library's own is made by the first call.
pub(crate) fn in_slot(slot: usize) -> Option<Arc<Sim>> {
    if slot == 0 {
        return default();
    }
    let serial = SEATS.lock().as_ref()?.occupied.get(&slot).copied()?;
    find(serial)
}

/// The C library's own driver, which the environment configures.
pub(crate) fn default() -> Option<Arc<Sim>> {
    let seat = DEFAULT.get_or_init(|| {
        let made = SimConfig::from_env().and_then(|config| Seat::take_slot(config, Some(0)));
        made.inspect_err(|error| {
            tracing::error!(%error, "no simulated driver");
            crate::sim::print(&format!("warpsmith software driver: {error}"));
        })
        .ok()
        .map(Arc::new)
    });
    seat.as_ref().map(|seat| Arc::clone(&seat.sim))
}

/// The C library's own driver, if a call has made it.
pub(crate) fn existing_default() -> Option<Arc<Sim>> {
    DEFAULT.get()?.as_ref().map(|seat| Arc::clone(&seat.sim))
}
