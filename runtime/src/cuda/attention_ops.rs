//! Incremental attention and the KV scatter as plain functions on device memory, for engines of others.
//!
//! Each comes in three forms:
//!
//! | form | stream | on return |
//! |---|---|---|
//! | `attention`, `scatter` | the object's own | finished |
//! | `attention_on`, `scatter_on` | the caller's | queued |
//! | `attention_async`, `scatter_async` | the object's own, which is returned | queued |
//!
//! One row of one sequence: the query is `[n_heads, head_dim]`, a cache is head-first, `[n_kv_heads, max_seq, head_dim]`,
//! all f32. With `n_kv_heads == n_heads` it is plain multi-head attention; otherwise query head `h` reads cache head
//! `h / (n_heads / n_kv_heads)`.

use gpu_driver::{
    Context, DeviceBuffer, DevicePtr, DeviceSlice, DeviceSliceMut, Function, KernelArgs, LaunchConfig, Stream,
};
use kernels::attention::Attention;
use kernels::kv_scatter::KvScatter;
use kernels::{CacheShape, Kernel};
use tensor_formats::ElementType;

use super::error::CudaError;
use super::module_cache::ModuleCache;

/// The sizes that the functions of one [`AttentionOps`] are specialised for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `n_kv_heads`.
    pub n_heads: usize,
    /// Heads of the caches.
    pub n_kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Positions of a cache.
    pub max_seq: usize,
    /// Factor on the scores before the softmax; usually `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// A query and the caches that it attends to.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInput<'a> {
    /// `[n_heads, head_dim]`.
    pub query: DeviceSlice<'a, f32>,
    /// `[n_kv_heads, max_seq, head_dim]`.
    pub keys: DeviceSlice<'a, f32>,
    /// `[n_kv_heads, max_seq, head_dim]`.
    pub values: DeviceSlice<'a, f32>,
    /// Positions that the query attends to: `0..seq_len`.
    pub seq_len: usize,
}

/// Attention and scatter for one shape, compiled once.
#[derive(Debug)]
pub struct AttentionOps {
    shape: AttentionShape,
    attention: Compiled,
    scatter: Compiled,
    stream: Stream,
    /// `0..max_seq`: a position is passed to a kernel as the address of its number, so a call uploads nothing.
    numbers: DeviceBuffer<u32>,
}

#[derive(Debug)]
struct Compiled {
    function: Function,
    config: LaunchConfig,
    aligns: Vec<u32>,
}

impl AttentionOps {
    /// Compiles the kernels for `shape`, or finds them in `cache`.
    ///
    /// # Errors
    /// A shape that no kernel takes, or the driver's failure.
    pub fn new(cache: &ModuleCache, shape: AttentionShape) -> Result<Self, CudaError> {
        let AttentionShape { n_heads, n_kv_heads, head_dim, max_seq, scale } = shape;
        let element = ElementType::F32;
        let cache_shape = CacheShape { n_sequences: 1, n_kv_heads, max_seq, head_dim, element };
        // Without memory of its own, so that calls on several streams do not meet.
        let attention = Attention::new(cache_shape, 1, n_heads, scale)?.unsplit();
        let attention = Compiled::new(cache, &attention)?;
        let scatter = Compiled::new(cache, &KvScatter::new(cache_shape, 1)?)?;
        let fail = || CudaError::driver("preparing attention");
        let stream = Stream::new(cache.context()).map_err(fail())?;
        // The kernels limit `max_seq` to 31 bits.
        let numbers: Vec<u32> = (0..max_seq as u32).collect();
        let numbers = DeviceBuffer::from_slice(&stream, &numbers).map_err(fail())?;
        Ok(Self { shape, attention, scatter, stream, numbers })
    }

    /// The sizes.
    pub fn shape(&self) -> &AttentionShape {
        &self.shape
    }

    /// The object's own stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Attention on the object's own stream; `output`, `[n_heads, head_dim]`, is there on return. An empty sequence
    /// gives zeros.
    ///
    /// # Errors
    /// [`CudaError::InvalidParameter`], with both numbers, for a tensor of another length or a sequence longer than the
    /// cache; the driver's failure.
    pub fn attention(
        &self,
        input: AttentionInput<'_>,
        output: &mut DeviceSliceMut<'_, f32>,
    ) -> Result<(), CudaError> {
        wait(self.attention_async(input, output)?)
    }

    /// Attention on the object's own stream, which is returned to wait for or to record an event in.
    ///
    /// # Errors
    /// As [`attention`](Self::attention).
    pub fn attention_async(
        &self,
        input: AttentionInput<'_>,
        output: &mut DeviceSliceMut<'_, f32>,
    ) -> Result<&Stream, CudaError> {
        self.attention_on(&self.stream, input, output)?;
        Ok(&self.stream)
    }

    /// Attention queued on `stream`.
    ///
    /// # Errors
    /// As [`attention`](Self::attention); nothing is queued then.
    pub fn attention_on(
        &self,
        stream: &Stream,
        input: AttentionInput<'_>,
        output: &mut DeviceSliceMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let AttentionShape { n_heads, head_dim, max_seq, .. } = self.shape;
        let AttentionInput { query, keys, values, seq_len } = input;
        expect_len("the length of the query", n_heads * head_dim, query.len())?;
        expect_len("the length of the key cache", self.cache_len(), keys.len())?;
        expect_len("the length of the value cache", self.cache_len(), values.len())?;
        expect_len("the length of the output", n_heads * head_dim, output.len())?;
        if seq_len > max_seq {
            return Err(invalid("the sequence length", format!("at most {max_seq}"), seq_len));
        }
        let contexts = [query.context(), keys.context(), values.context(), output.context()];
        self.expect_context(&contexts)?;
        let Some(position) = seq_len.checked_sub(1) else {
            return stream.memset(output, 0).map_err(CudaError::driver("attention to nothing"));
        };
        let pointers = [
            query.device_ptr(),
            keys.device_ptr(),
            values.device_ptr(),
            self.number(position),
            self.number(0),
            output.device_ptr(),
        ];
        // SAFETY: query, caches and output have the lengths that the kernel was made for, and the position is inside the
        // caches; positions and sequence are single numbers of `self.numbers`. All are memory of this context, and
        // freeing device memory waits for running kernels.
        unsafe { self.attention.launch(stream, &pointers) }
    }

    /// Writes `row`, `[n_kv_heads, head_dim]`, to `position` of `cache`, `[n_kv_heads, max_seq, head_dim]`, on the
    /// object's own stream, and waits.
    ///
    /// # Errors
    /// [`CudaError::InvalidParameter`], with both numbers, for a tensor of another length or a position outside the
    /// cache; the driver's failure.
    pub fn scatter(
        &self,
        cache: &mut DeviceSliceMut<'_, f32>,
        row: DeviceSlice<'_, f32>,
        position: usize,
    ) -> Result<(), CudaError> {
        wait(self.scatter_async(cache, row, position)?)
    }

    /// [`scatter`](Self::scatter) without waiting; returns the object's own stream.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub fn scatter_async(
        &self,
        cache: &mut DeviceSliceMut<'_, f32>,
        row: DeviceSlice<'_, f32>,
        position: usize,
    ) -> Result<&Stream, CudaError> {
        self.scatter_on(&self.stream, cache, row, position)?;
        Ok(&self.stream)
    }

    /// [`scatter`](Self::scatter) queued on `stream`: one launch.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter); nothing is queued then.
    pub fn scatter_on(
        &self,
        stream: &Stream,
        cache: &mut DeviceSliceMut<'_, f32>,
        row: DeviceSlice<'_, f32>,
        position: usize,
    ) -> Result<(), CudaError> {
        let AttentionShape { n_kv_heads, head_dim, max_seq, .. } = self.shape;
        expect_len("the length of the cache", self.cache_len(), cache.len())?;
        expect_len("the length of the row", n_kv_heads * head_dim, row.len())?;
        if position >= max_seq {
            return Err(invalid("the position", format!("below {max_seq}"), position));
        }
        self.expect_context(&[cache.context(), row.context()])?;
        let pointers = [cache.device_ptr(), row.device_ptr(), self.number(position), self.number(0)];
        // SAFETY: cache and row have the lengths that the kernel was made for, and the position is inside the cache;
        // position and sequence are single numbers of `self.numbers`. All are memory of this context, and freeing device
        // memory waits for running kernels.
        unsafe { self.scatter.launch(stream, &pointers) }
    }

    fn cache_len(&self) -> usize {
        self.shape.n_kv_heads * self.shape.max_seq * self.shape.head_dim
    }

    /// The address of the number `value`, which is below `max_seq`.
    fn number(&self, value: usize) -> DevicePtr {
        self.numbers.device_ptr().byte_add(value as u64 * 4)
    }

    fn expect_context(&self, contexts: &[&Context]) -> Result<(), CudaError> {
        let own = self.numbers.context();
        match contexts.iter().find(|context| !context.same_as(own)) {
            None => Ok(()),
            Some(other) => {
                let expected = own.device().ordinal().to_string();
                Err(invalid("the device of a tensor", expected, other.device().ordinal()))
            }
        }
    }
}

impl Compiled {
    fn new(cache: &ModuleCache, kernel: &dyn Kernel) -> Result<Self, CudaError> {
        let compiled = cache.get(kernel)?;
        let config = compiled.config(kernel.geometry());
        let aligns = kernel.params().iter().map(|param| param.align).collect();
        Ok(Self { function: compiled.function, config, aligns })
    }

    /// # Safety
    /// As [`Function::launch`], but for the pointers' alignment, which is checked here.
    unsafe fn launch(&self, stream: &Stream, pointers: &[DevicePtr]) -> Result<(), CudaError> {
        for (pointer, &align) in pointers.iter().zip(&self.aligns) {
            if !pointer.0.is_multiple_of(u64::from(align)) {
                let expected = format!("a multiple of {align}");
                return Err(invalid("the address of a tensor", expected, pointer));
            }
        }
        let args = KernelArgs::from_pointers(pointers.iter().copied());
        // SAFETY: the caller's promise; alignment was checked above.
        unsafe { self.function.launch(stream, &self.config, &args) }
            .map_err(CudaError::driver(format!("launching {}", self.function.name())))
    }
}

fn wait(stream: &Stream) -> Result<(), CudaError> {
    stream.synchronize().map_err(CudaError::driver("waiting for attention"))
}

fn expect_len(what: &'static str, expected: usize, actual: usize) -> Result<(), CudaError> {
    if expected == actual { Ok(()) } else { Err(invalid(what, expected.to_string(), actual)) }
}

fn invalid(what: &'static str, expected: String, actual: impl std::fmt::Display) -> CudaError {
    CudaError::InvalidParameter { what, expected, actual: actual.to_string() }
}
