//! Fills device memory from ordinary host memory, such as a mapped file, through pinned staging buffers.
//!
//! The driver copies from pageable memory at half the speed of the bus or less, and waits after every copy. Here the
//! host's cores copy one piece into a pinned buffer while the copy engine sends the one before, and nothing waits
//! until a buffer is needed again.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
pub const PIECE_BYTES: usize = 512 << 10;

/// Sends bytes to the device on a stream of its own.
#[derive(Debug)]
pub struct Uploader {
    stream: Stream,
    staging: Vec<Staging>,
    next: usize,
    times: UploadTimes,
}

/// What the host's time went to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadTimes {
    /// Filling staging buffers with an image.
    pub filling: Duration,
    /// Waiting until the copy engine was done with one.
    pub waiting: Duration,
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
        Ok(Self { stream, staging, next: 0, times: UploadTimes::default() })
    }

    /// Queues the copy of `source` to `target`, which have the same length. `source` has been read when this returns.
    ///
    /// # Errors
    /// Different lengths, or the driver's failure.
    pub fn send(&mut self, target: DeviceSliceMut<'_, u8>, source: &[u8]) -> Result<(), CudaError> {
        check_len(&target, source.len())?;
        let mut rest = target;
        let most = self.staging[0].buffer.len();
        for part in source.chunks(most) {
            let (mut target, after) = rest.split_at(part.len()).map_err(upload_error())?;
            rest = after;
            let staging = self.next_staging()?;
            let host = &mut staging.buffer_mut()?[..part.len()];
            let pieces = host.par_chunks_mut(PIECE_BYTES).zip(part.par_chunks(PIECE_BYTES));
            pieces.for_each(|(to, from)| to.copy_from_slice(from));
            let staged = Arc::clone(&staging.buffer);
            self.stream.copy_to_device_async(&mut target, &staged, ..part.len()).map_err(upload_error())?;
            drop(staged);
            self.sent()?;
        }
        Ok(())
    }

    /// The next buffer, when the copy engine is done with it.
    fn next_staging(&mut self) -> Result<&mut Staging, CudaError> {
        let waiting = Instant::now();
        let staging = &mut self.staging[self.next];
        staging.reclaim(&self.stream)?;
        self.times.waiting += waiting.elapsed();
        Ok(staging)
    }

    /// What was queued is all that is taken from the buffer; the next one is another.
    fn sent(&mut self) -> Result<(), CudaError> {
        let sent = self.stream.record(EventKind::Blocking).map_err(upload_error())?;
        self.staging[self.next].sent = Some(sent);
        self.next = (self.next + 1) % BUFFERS;
        Ok(())
    }

    /// What the host did so far.
    pub fn times(&self) -> UploadTimes {
        self.times
    }

    /// Queues copies of the `runs` of an image, byte ranges in ascending order that do not overlap, to the same bytes of
    /// `span`. `fill` writes the image: it gets the offset of a piece of the image, and the piece. Pieces have
    /// [`PIECE_BYTES`] bytes, but for the last, and begin at multiples of that; what lies between the runs goes nowhere.
    ///
    /// # Errors
    /// A run that is not within `span`, what `fill` refuses, or the driver's failure.
    pub fn send_image(
        &mut self,
        memory: &DeviceMemory,
        span: Span,
        runs: &[Range<u64>],
        fill: impl Fn(u64, &mut [u8]) -> Result<(), CudaError> + Sync,
    ) -> Result<(), CudaError> {
        let end = runs.last().map_or(0, |run| run.end);
        let most = self.staging[0].buffer.len() as u64;
        if end > most && !most.is_multiple_of(PIECE_BYTES as u64) {
            return Err(length_error(most, end));
        }
        let mut runs = runs;
        let mut start = 0;
        while start < end {
            let stop = (start + most).min(end);
            let bytes = (stop - start) as usize;
            let staging = self.next_staging()?;
            let pieces = staging.buffer_mut()?[..bytes].par_chunks_mut(PIECE_BYTES).enumerate();
            let filling = Instant::now();
            pieces.try_for_each(|(index, to)| fill(start + (index * PIECE_BYTES) as u64, to))?;
            let filling = filling.elapsed();
            let staged = Arc::clone(&staging.buffer);
            let within = |run: &Range<u64>| run.start.max(start)..run.end.min(stop);
            for run in runs.iter().map(within).take_while(|run| run.start < stop) {
                let part =
                    Span { region: span.region, offset: span.offset + run.start, bytes: run.end - run.start };
                if run.end > span.bytes {
                    return Err(length_error(span.bytes, run.end));
                }
                let from = (run.start - start) as usize..(run.end - start) as usize;
                let mut target = memory.device_slice_mut(part)?;
                self.stream.copy_to_device_async(&mut target, &staged, from).map_err(upload_error())?;
            }
            drop(staged);
            self.sent()?;
            self.times.filling += filling;
            runs = &runs[runs.partition_point(|run| run.end <= stop)..];
            start = stop;
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

    /// Waits until the copy engine is done with the buffer.
    fn reclaim(&mut self, stream: &Stream) -> Result<(), CudaError> {
        if let Some(sent) = self.sent.take() {
            sent.synchronize().map_err(upload_error())?;
            // The stream lets go of buffers whose copies are done.
            stream.parked();
        }
        if Arc::get_mut(&mut self.buffer).is_none() {
            // The stream still holds it: let go of this one and pin another.
            *self = Self::new(stream.context(), self.buffer.len())?;
        }
        Ok(())
    }

    /// The buffer's bytes. Only after [`reclaim`](Self::reclaim).
    fn buffer_mut(&mut self) -> Result<&mut [u8], CudaError> {
        let bytes = self.buffer.len();
        match Arc::get_mut(&mut self.buffer) {
            Some(buffer) => Ok(buffer),
            None => Err(CudaError::InvalidParameter {
                what: "a staging buffer",
                expected: "one that nothing else uses".to_owned(),
                actual: format!("{bytes} bytes that are being sent"),
            }),
        }
    }
}

fn check_len(target: &DeviceSliceMut<'_, u8>, source: usize) -> Result<(), CudaError> {
    if target.len() == source {
        return Ok(());
    }
    Err(length_error(target.len() as u64, source as u64))
}

fn length_error(expected: u64, actual: u64) -> CudaError {
    let (expected, actual) = (expected.to_string(), actual.to_string());
    CudaError::InvalidParameter { what: "the length of an upload", expected, actual }
}

fn upload_error() -> impl FnOnce(gpu_driver::DriverError) -> CudaError {
    CudaError::driver("uploading to the device")
}
