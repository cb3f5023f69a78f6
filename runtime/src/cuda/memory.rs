//! The allocations behind a memory map.

use std::sync::Arc;

use gpu_driver::{Context, DeviceBuffer, DevicePtr, DeviceSlice, DeviceSliceMut, SharedPinned, Stream};

use super::error::CudaError;
use super::memory_map::{MemoryMap, Region, RegionId, RegionKind, Span};

/// Device and pinned host memory, named. Cloning shares the allocations; a plan, its graph and work in flight each
/// hold a clone, so none of them can outlive what it points to.
#[derive(Debug, Clone)]
pub struct DeviceMemory {
    context: Context,
    map: Arc<MemoryMap>,
    allocations: Vec<Allocation>,
}

/// What owns a region.
#[derive(Debug, Clone)]
pub(crate) enum Allocation {
    Device(Arc<DeviceBuffer<u8>>),
    /// In words, since the host reads and writes it word by word.
    Host(Arc<SharedPinned<u32>>),
}

impl DeviceMemory {
    /// No memory.
    pub fn new(context: &Context) -> Self {
        Self { context: context.clone(), map: Arc::new(MemoryMap::new()), allocations: Vec::new() }
    }

    /// The context that the memory is of.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The regions.
    pub fn map(&self) -> &Arc<MemoryMap> {
        &self.map
    }

    /// Adds a buffer whose contents stay as they are.
    ///
    /// # Errors
    /// [`CudaError::InvalidParameter`] for a kind of host memory, or a buffer of another context.
    pub fn add(
        &mut self,
        name: &str,
        kind: RegionKind,
        buffer: DeviceBuffer<u8>,
    ) -> Result<RegionId, CudaError> {
        if matches!(kind, RegionKind::Host | RegionKind::Mapped) {
            return Err(invalid("the kind of a device buffer", "on the device", format!("{kind:?}")));
        }
        if !self.context.same_as(buffer.context()) {
            let (own, other) = (self.context.device().ordinal(), buffer.context().device().ordinal());
            return Err(invalid("the buffer's device", &own.to_string(), other.to_string()));
        }
        let (base, bytes) = (buffer.device_ptr().0, buffer.byte_len() as u64);
        let region = Region { name: name.to_owned(), kind, base, bytes };
        Ok(self.register(region, Allocation::Device(Arc::new(buffer))))
    }

    /// Allocates device memory without setting its contents.
    ///
    /// # Errors
    /// The driver's, with the region's name.
    pub fn allocate(&mut self, name: &str, kind: RegionKind, bytes: u64) -> Result<RegionId, CudaError> {
        let buffer = device_buffer(&self.context, name, bytes)?;
        self.add(name, kind, buffer)
    }

    /// Allocates device memory and fills it with `value`, in the order of `stream`.
    ///
    /// # Errors
    /// The driver's, with the region's name.
    pub fn allocate_filled(
        &mut self,
        stream: &Stream,
        name: &str,
        kind: RegionKind,
        bytes: u64,
        value: u8,
    ) -> Result<RegionId, CudaError> {
        let mut buffer = device_buffer(&self.context, name, bytes)?;
        stream
            .memset(&mut buffer.as_slice_mut(), value)
            .map_err(CudaError::driver(format!("filling {name}")))?;
        self.add(name, kind, buffer)
    }

    /// Allocates zeroed pinned host memory of at least `bytes` bytes, in whole words.
    ///
    /// # Errors
    /// The driver's, with the region's name.
    pub fn allocate_host(&mut self, name: &str, bytes: u64) -> Result<RegionId, CudaError> {
        self.allocate_pinned(name, RegionKind::Host, bytes)
    }

    /// Allocates zeroed pinned host memory of at least `bytes` bytes, in whole words, that kernels write.
    ///
    /// # Errors
    /// The driver's, with the region's name.
    pub fn allocate_mapped(&mut self, name: &str, bytes: u64) -> Result<RegionId, CudaError> {
        self.allocate_pinned(name, RegionKind::Mapped, bytes)
    }

    fn allocate_pinned(&mut self, name: &str, kind: RegionKind, bytes: u64) -> Result<RegionId, CudaError> {
        let (base, pinned) = pinned(&self.context, name, kind, bytes)?;
        let region = Region { name: name.to_owned(), kind, base, bytes: pinned.byte_len() as u64 };
        Ok(self.register(region, Allocation::Host(Arc::new(pinned))))
    }

    /// Replaces region `id` by new memory of `bytes` bytes, of the same name and kind. Plans made before keep the old
    /// memory.
    ///
    /// # Errors
    /// The driver's, or [`CudaError::InvalidParameter`] for a region of another map. The region is then as it was.
    pub fn replace(&mut self, id: RegionId, bytes: u64) -> Result<(), CudaError> {
        let Some(region) = self.map.get(id).cloned() else { return Err(unknown(id)) };
        let (base, bytes, allocation) = match &self.allocations[id.index()] {
            Allocation::Device(_) => {
                let buffer = device_buffer(&self.context, &region.name, bytes)?;
                (buffer.device_ptr().0, buffer.byte_len() as u64, Allocation::Device(Arc::new(buffer)))
            }
            Allocation::Host(_) => {
                let (base, pinned) = pinned(&self.context, &region.name, region.kind, bytes)?;
                (base, pinned.byte_len() as u64, Allocation::Host(Arc::new(pinned)))
            }
        };
        let mut map = MemoryMap::new();
        for (other, old) in self.map.iter() {
            let new = Region { base, bytes, ..region.clone() };
            map.add(if other == id { new } else { old.clone() });
        }
        self.map = Arc::new(map);
        self.allocations[id.index()] = allocation;
        Ok(())
    }

    /// The pinned memory of a host region, mapped or not.
    ///
    /// # Errors
    /// [`CudaError::InvalidParameter`] if `id` is no host region of this memory.
    pub fn host(&self, id: RegionId) -> Result<&Arc<SharedPinned<u32>>, CudaError> {
        match self.allocations.get(id.index()) {
            Some(Allocation::Host(pinned)) => Ok(pinned),
            _ => Err(unknown(id)),
        }
    }

    /// The device bytes of `span`, to read.
    ///
    /// # Errors
    /// [`CudaError::InvalidParameter`] if the span is not in device memory of this map.
    pub fn device_slice(&self, span: Span) -> Result<DeviceSlice<'_, u8>, CudaError> {
        let (address, len) = self.device_range(span)?;
        // SAFETY: the range lies within a region, which is one allocation that `self` keeps alive for the borrow.
        Ok(unsafe { DeviceSlice::from_raw(&self.context, address, len) })
    }

    /// The device bytes of `span`, to write. Work that this is passed to is ordered by the stream it goes to, like the
    /// plans that use the same bytes.
    ///
    /// # Errors
    /// [`CudaError::InvalidParameter`] if the span is not in device memory of this map.
    pub(crate) fn device_slice_mut(&self, span: Span) -> Result<DeviceSliceMut<'_, u8>, CudaError> {
        let (address, len) = self.device_range(span)?;
        // SAFETY: the range lies within a region, which is one allocation that `self` keeps alive for the borrow. The
        // callers in this module make one such slice at a time, for one call that queues a copy or a fill.
        Ok(unsafe { DeviceSliceMut::from_raw(&self.context, address, len) })
    }

    pub(crate) fn allocation(&self, id: RegionId) -> Result<&Allocation, CudaError> {
        self.allocations.get(id.index()).ok_or_else(|| unknown(id))
    }

    fn device_range(&self, span: Span) -> Result<(DevicePtr, usize), CudaError> {
        let not_inside = || {
            let actual = self.map.display(span).to_string();
            invalid("a span", "inside device memory", actual)
        };
        let Some(Allocation::Device(_)) = self.allocations.get(span.region.index()) else {
            return Err(not_inside());
        };
        let address = self.map.address(span).ok_or_else(not_inside)?;
        let len = usize::try_from(span.bytes).map_err(|_| not_inside())?;
        Ok((DevicePtr(address), len))
    }

    fn register(&mut self, region: Region, allocation: Allocation) -> RegionId {
        self.allocations.push(allocation);
        Arc::make_mut(&mut self.map).add(region)
    }
}

fn device_buffer(context: &Context, name: &str, bytes: u64) -> Result<DeviceBuffer<u8>, CudaError> {
    let len = usize::try_from(bytes).map_err(|_| CudaError::Overflow { what: name.to_owned() })?;
    DeviceBuffer::uninit(context, len)
        .map_err(CudaError::driver(format!("allocating {bytes} bytes for {name}")))
}

/// Pinned memory with the address by which plans know it.
fn pinned(
    context: &Context,
    name: &str,
    kind: RegionKind,
    bytes: u64,
) -> Result<(u64, SharedPinned<u32>), CudaError> {
    let fail = || CudaError::driver(format!("allocating {bytes} bytes of pinned memory for {name}"));
    let pinned = SharedPinned::zeroed(context, words(name, bytes)?).map_err(fail())?;
    let base = match kind {
        RegionKind::Mapped => pinned.device_ptr().map_err(fail())?.0,
        _ => pinned.host_ptr() as u64,
    };
    Ok((base, pinned))
}

fn words(name: &str, bytes: u64) -> Result<usize, CudaError> {
    usize::try_from(bytes.div_ceil(4)).map_err(|_| CudaError::Overflow { what: name.to_owned() })
}

fn invalid(what: &'static str, expected: &str, actual: String) -> CudaError {
    CudaError::InvalidParameter { what, expected: expected.to_owned(), actual }
}

fn unknown(id: RegionId) -> CudaError {
    invalid("a region", "one of this memory, of the right kind", format!("region {}", id.index()))
}
