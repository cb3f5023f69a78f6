//! Fills device memory from ordinary host memory, such as a mapped file, through pinned staging buffers.
//!
//! The driver copies from pageable memory at half the speed of the bus or less, and waits after every copy. Here the
//! host's cores copy one piece into a pinned buffer while the copy engine sends the one before, and nothing waits
//! until a buffer is needed again.

use std::sync::Arc;

use gpu_driver::{Context, DeviceSliceMut, Event, EventKind, PinnedBuffer, Stream};
use rayon::prelude::*;

use super::error::CudaError;
use super::memory::DeviceMemory;
use super::memory_map::Span;

/// Bytes of a staging buffer: large enough for the bus to be at speed, small enough to be pinned at once.
const STAGING_BYTES: usize = 16 << 20;

/// Staging buffers, so that one is filled while others are sent.
const BUFFERS: usize = 3;

/// Bytes that one thread copies at a time.
const HOST_PIECE: usize = 1 << 20;

/// Sends bytes to the device on a stream of its own.
#[derive(Debug)]
pub struct Uploader {
    stream: Stream,
    staging: Vec<Staging>,
    next: usize,
}

#[derive(Debug)]
struct Staging {
    buffer: Arc<PinnedBuffer<u8>>,
    /// After the last copy out of the buffer.
    sent: Option<Event>,
}

impl Uploader {
    /// Pins the staging buffers and makes the stream. For `total` bytes in all; small uploads pin less.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(context: &Context, total: u64) -> Result<Self, CudaError> {
        let bytes = usize::try_from(total).unwrap_or(usize::MAX).clamp(1, STAGING_BYTES);
        let stream = Stream::new(context).map_err(CudaError::driver("making the upload stream"))?;
        let staging = (0..BUFFERS).map(|_| Staging::new(context, bytes)).collect::<Result<_, _>>()?;
        Ok(Self { stream, staging, next: 0 })
    }

    /// Queues the copy of `source` to `target`, which have the same length. `source` has been read when this returns.
    ///
    /// # Errors
    /// Different lengths, or the driver's failure.
    pub fn send(&mut self, target: DeviceSliceMut<'_, u8>, source: &[u8]) -> Result<(), CudaError> {
        if target.len() != source.len() {
            let (expected, actual) = (target.len().to_string(), source.len().to_string());
            return Err(CudaError::InvalidParameter { what: "the length of an upload", expected, actual });
        }
        let mut rest = target;
        let piece = self.staging[0].buffer.len();
        for source in source.chunks(piece) {
            let (mut target, after) = rest.split_at(source.len()).map_err(upload_error())?;
            rest = after;
            let staging = &mut self.staging[self.next];
            self.next = (self.next + 1) % BUFFERS;
            let host = staging.reclaim(&self.stream)?;
            host[..source.len()]
                .par_chunks_mut(HOST_PIECE)
                .zip(source.par_chunks(HOST_PIECE))
                .for_each(|(to, from)| to.copy_from_slice(from));
            self.stream
                .copy_to_device_async(&mut target, &staging.buffer, ..source.len())
                .map_err(upload_error())?;
            staging.sent = Some(self.stream.record(EventKind::Blocking).map_err(upload_error())?);
        }
        Ok(())
    }

    /// [`send`](Self::send) to the bytes `span` of `memory`.
    ///
    /// # Errors
    /// As [`send`](Self::send); a span that is not in device memory.
    pub fn send_to(&mut self, memory: &DeviceMemory, span: Span, source: &[u8]) -> Result<(), CudaError> {
        self.send(memory.device_slice_mut(span)?, source)
    }

    /// Waits until everything is on the device.
    ///
    /// # Errors
    /// The driver's failure.
    pub fn finish(self) -> Result<(), CudaError> {
        self.stream.synchronize().map_err(upload_error())
    }
}

impl Staging {
    fn new(context: &Context, bytes: usize) -> Result<Self, CudaError> {
        let buffer = PinnedBuffer::zeroed(context, bytes)
            .map_err(CudaError::driver(format!("pinning {bytes} bytes for uploads")))?;
        Ok(Self { buffer: Arc::new(buffer), sent: None })
    }

    /// The buffer's bytes, once the copy engine is done with them.
    fn reclaim(&mut self, stream: &Stream) -> Result<&mut [u8], CudaError> {
        if let Some(sent) = self.sent.take() {
            sent.synchronize().map_err(upload_error())?;
            // The stream lets go of buffers whose copies are done.
            stream.parked();
        }
        if Arc::get_mut(&mut self.buffer).is_none() {
            // The stream still holds it: let go of this one and pin another.
            *self = Self::new(stream.context(), self.buffer.len())?;
        }
        match Arc::get_mut(&mut self.buffer) {
            Some(buffer) => Ok(buffer),
            None => unreachable!("a buffer that was just made is shared"),
        }
    }
}

fn upload_error() -> impl FnOnce(gpu_driver::DriverError) -> CudaError {
    CudaError::driver("uploading to the device")
}
