//! The shape of a key or value cache.

use tensor_formats::ElementType;

use crate::KernelError;
use crate::stored::Stored;
use crate::support::{dim, dim_up_to, extent, refuse};

/// One layer's key cache, or value cache: `[n_sequences, n_kv_heads, max_seq, head_dim]`, outermost first. The
/// positions of a head lie next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheShape {
    /// Sequences that the cache holds.
    pub n_sequences: usize,
    /// Key (value) heads.
    pub n_kv_heads: usize,
    /// Positions of a sequence.
    pub max_seq: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// The type of what is stored: F32, F16, BF16 or F8E4M3.
    pub element: ElementType,
}

/// A [`CacheShape`] whose numbers are in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cache {
    pub n_sequences: u32,
    pub n_kv_heads: u32,
    pub max_seq: u32,
    pub head_dim: u32,
    pub stored: Stored,
}

impl Cache {
    pub fn new(kernel: &'static str, shape: CacheShape) -> Result<Self, KernelError> {
        let cache = Self {
            n_sequences: dim(kernel, "n_sequences", shape.n_sequences)?,
            n_kv_heads: dim(kernel, "n_kv_heads", shape.n_kv_heads)?,
            max_seq: dim(kernel, "max_seq", shape.max_seq)?,
            head_dim: dim_up_to(kernel, "head_dim", shape.head_dim, 1 << 16)?,
            stored: Stored::new(kernel, shape.element)?,
        };
        let Self { n_sequences, n_kv_heads, max_seq, head_dim, .. } = cache;
        extent(kernel, "cache", &[n_sequences, n_kv_heads, max_seq, head_dim])?;
        if u64::from(n_sequences) * u64::from(n_kv_heads) >= 1 << 31 {
            return Err(refuse(kernel, format!("{n_sequences} sequences of {n_kv_heads} heads")));
        }
        Ok(cache)
    }

    /// Elements of the whole cache.
    pub fn elements(&self) -> u64 {
        u64::from(self.n_sequences) * u64::from(self.n_kv_heads) * self.head_elements()
    }

    /// Bytes of the whole cache.
    pub fn bytes(&self) -> u64 {
        self.elements() * u64::from(self.stored.bytes())
    }

    /// Elements of one head of one sequence.
    pub fn head_elements(&self) -> u64 {
        u64::from(self.max_seq) * u64::from(self.head_dim)
    }

    /// Features of one row of keys (values): all heads.
    pub fn row(&self) -> u64 {
        u64::from(self.n_kv_heads) * u64::from(self.head_dim)
    }

    /// The index of the first element of a position in the cache; `None` if it is outside.
    pub fn index(&self, sequence: u32, head: u32, position: u32) -> Option<usize> {
        let inside = sequence < self.n_sequences && head < self.n_kv_heads && position < self.max_seq;
        let row = (sequence as usize * self.n_kv_heads as usize + head as usize) * self.max_seq as usize;
        inside.then(|| (row + position as usize) * self.head_dim as usize)
    }

    /// The part of a kernel's name that says all of this.
    pub fn name(&self) -> String {
        format!("s{}_kv{}_m{}_d{}", self.n_sequences, self.n_kv_heads, self.max_seq, self.head_dim)
    }
}
