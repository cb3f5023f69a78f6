//! Where things are: named regions of memory and byte ranges within them.
//!
//! A plan speaks of spans, not of pointers, so that what its steps touch can be compared, checked and printed. Two
//! regions never overlap, because each is one allocation.

use std::fmt;

/// Names a [`Region`] of a [`MemoryMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(u32);

impl RegionId {
    /// The region's place in the order of registration.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a region is for, which decides who may read and write it and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegionKind {
    /// Device memory filled once, before any plan runs: weights and tables. Plans only read it.
    Constant,
    /// Device memory that keeps its contents between runs: KV caches.
    State,
    /// Device memory without contents at the start of a run: a plan must write a byte before it reads it.
    Scratch,
    /// Page-locked host memory. Only copies touch it.
    Host,
    /// Page-locked host memory that kernels write while the host reads it. No copy touches it.
    Mapped,
}

/// One allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// The name in messages and listings.
    pub name: String,
    /// What it is for.
    pub kind: RegionKind,
    /// Its address: the one that kernels use, or the host's for [`RegionKind::Host`].
    pub base: u64,
    /// Its size.
    pub bytes: u64,
}

/// A half-open range of bytes of one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The region.
    pub region: RegionId,
    /// The first byte, from the start of the region.
    pub offset: u64,
    /// The number of bytes.
    pub bytes: u64,
}

impl Span {
    /// One past the last byte. Saturates, so that an impossible span compares as too long rather than wrapping.
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }

    /// Whether the two share a byte.
    pub fn overlaps(self, other: Span) -> bool {
        self.region == other.region && self.offset.max(other.offset) < self.end().min(other.end())
    }

    /// Whether every byte of `other` is a byte of `self`.
    pub fn covers(self, other: Span) -> bool {
        self.region == other.region && self.offset <= other.offset && other.end() <= self.end()
    }

    /// The first `bytes` bytes, or `None` if the span is shorter.
    pub fn prefix(self, bytes: u64) -> Option<Span> {
        (bytes <= self.bytes).then_some(Span { bytes, ..self })
    }

    /// `bytes` bytes from `offset` on, counted from the start of the span; `None` if they are not all inside.
    pub fn slice(self, offset: u64, bytes: u64) -> Option<Span> {
        let end = offset.checked_add(bytes)?;
        (end <= self.bytes).then_some(Span { offset: self.offset.checked_add(offset)?, bytes, ..self })
    }
}

/// The regions that a plan may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryMap {
    regions: Vec<Region>,
}

impl MemoryMap {
    /// A map without regions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an allocation.
    pub fn add(&mut self, region: Region) -> RegionId {
        let id = RegionId(self.regions.len() as u32);
        self.regions.push(region);
        id
    }

    /// The region called `id`, or `None` if it belongs to another map.
    pub fn get(&self, id: RegionId) -> Option<&Region> {
        self.regions.get(id.index())
    }

    /// Every region with its name.
    pub fn iter(&self) -> impl Iterator<Item = (RegionId, &Region)> {
        self.regions.iter().enumerate().map(|(index, region)| (RegionId(index as u32), region))
    }

    /// All of region `id`.
    pub fn whole(&self, id: RegionId) -> Option<Span> {
        self.get(id).map(|region| Span { region: id, offset: 0, bytes: region.bytes })
    }

    /// The address of the span's first byte, or `None` if the span is not inside its region.
    pub fn address(&self, span: Span) -> Option<u64> {
        let region = self.get(span.region)?;
        let end = span.offset.checked_add(span.bytes)?;
        (end <= region.bytes).then(|| region.base.checked_add(span.offset))?
    }

    /// The span as people read it: `workspace[256..1280]`.
    pub fn display(&self, span: Span) -> impl fmt::Display {
        let name = self.get(span.region).map_or("(unknown region)", |region| &region.name);
        format!("{name}[{}..{}]", span.offset, span.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: u64, bytes: u64) -> Span {
        Span { region: RegionId(0), offset, bytes }
    }

    #[test]
    fn overlap_needs_a_shared_byte() {
        assert!(span(0, 10).overlaps(span(9, 1)));
        assert!(!span(0, 10).overlaps(span(10, 1)));
        assert!(!span(0, 10).overlaps(span(5, 0)));
        assert!(!span(0, 10).overlaps(Span { region: RegionId(1), ..span(0, 10) }));
    }

    #[test]
    fn slices_stay_inside() {
        assert_eq!(span(100, 10).slice(4, 6), Some(span(104, 6)));
        assert_eq!(span(100, 10).slice(4, 7), None);
        assert_eq!(span(100, 10).slice(u64::MAX, 2), None);
        assert_eq!(span(100, 10).prefix(11), None);
        assert!(span(100, 10).covers(span(104, 6)));
        assert!(!span(100, 10).covers(span(104, 7)));
    }

    #[test]
    fn addresses_beyond_four_gib_do_not_wrap() {
        let mut map = MemoryMap::new();
        let big =
            Region { name: "weights".into(), kind: RegionKind::Constant, base: 1 << 40, bytes: 6 << 30 };
        let id = map.add(big);
        let last = Span { region: id, offset: (6 << 30) - 4, bytes: 4 };
        assert_eq!(map.address(last), Some((1 << 40) + (6 << 30) - 4));
        assert_eq!(map.address(Span { bytes: 5, ..last }), None);
        assert_eq!(map.address(Span { offset: u64::MAX, ..last }), None);
        assert_eq!(map.display(last).to_string(), "weights[6442450940..6442450944]");
    }
}
