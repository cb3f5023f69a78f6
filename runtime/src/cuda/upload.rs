//! Fills device memory from ordinary host memory, such as a mapped file, through pinned staging buffers.
//!
//! The driver copies from pageable memory at half the speed of the bus or less, and waits after every copy. Here the
//! host's cores copy one piece into a pinned buffer while the copy engine sends the one before, and nothing waits
//! until a buffer is needed again.

use std::sync::Arc;

use gpu_driver::{Context, DeviceSliceMut, Event, EventKind, PinnedBuffer, Stream};
use rayon::prelude::*;
use tensor_formats::{ElementType, FormatError, planes_range};

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

/// A matrix in GGUF's layout.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The type of its elements.
    pub element: ElementType,
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// Its bytes.
    pub gguf: &'a [u8],
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
        check_len(&target, source.len())?;
        self.send_filled(target, |start, to| {
            to.copy_from_slice(&source[start..start + to.len()]);
            Ok(())
        })
    }

    /// As [`send_to`](Self::send_to) with a matrix in GGUF's layout, which arrives in the device's
    /// ([`tensor_formats::planes`]).
    ///
    /// # Errors
    /// A matrix that its type does not allow, different lengths, or the driver's failure.
    pub fn send_matrix(
        &mut self,
        memory: &DeviceMemory,
        span: Span,
        matrix: &Matrix<'_>,
    ) -> Result<(), CudaError> {
        let Matrix { element, rows, cols, gguf } = *matrix;
        let target = memory.device_slice_mut(span)?;
        check_len(&target, gguf.len())?;
        self.send_filled(target, |start, to| {
            planes_range(element, rows, cols, gguf, start..start + to.len(), to)
        })
    }

    /// Queues the bytes that `fill` writes: it gets the offset of a piece of the target, and the piece.
    fn send_filled(
        &mut self,
        target: DeviceSliceMut<'_, u8>,
        fill: impl Fn(usize, &mut [u8]) -> Result<(), FormatError> + Sync,
    ) -> Result<(), CudaError> {
        let total = target.len();
        let mut rest = target;
        let most = self.staging[0].buffer.len();
        let mut start = 0;
        while start < total {
            let bytes = most.min(total - start);
            let (mut target, after) = rest.split_at(bytes).map_err(upload_error())?;
            rest = after;
            let staging = &mut self.staging[self.next];
            self.next = (self.next + 1) % BUFFERS;
            let host = &mut staging.reclaim(&self.stream)?[..bytes];
            let pieces = host.par_chunks_mut(HOST_PIECE).enumerate();
            pieces.try_for_each(|(index, to)| fill(start + index * HOST_PIECE, to))?;
            self.stream.copy_to_device_async(&mut target, &staging.buffer, ..bytes).map_err(upload_error())?;
            staging.sent = Some(self.stream.record(EventKind::Blocking).map_err(upload_error())?);
            start += bytes;
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

fn check_len(target: &DeviceSliceMut<'_, u8>, source: usize) -> Result<(), CudaError> {
    if target.len() == source {
        return Ok(());
    }
    let (expected, actual) = (target.len().to_string(), source.to_string());
    Err(CudaError::InvalidParameter { what: "the length of an upload", expected, actual })
}

fn upload_error() -> impl FnOnce(gpu_driver::DriverError) -> CudaError {
    CudaError::driver("uploading to the device")
}
