//! The layout of weights on a device: the bytes of the GGUF blocks, plane by plane.
//!
//! In GGUF's order the scales of each block lie between its quants and the next block's, and blocks of 18, 34 or 210 bytes
//! leave no alignment that a wide load could use. On a device the blocks are taken apart: what is alike in all blocks of
//! a matrix lies together in a *plane*, in the order of rows and of the blocks in a row. The planes of a matrix follow
//! each other, the quants first. Bytes within a block's part of a plane keep GGUF's order, but where a thread wants 32 of
//! them, in two loads of 16, the first halves of four threads lie together, and then the second ones: a warp's load then
//! covers whole sectors. Nothing is padded or computed, so that a matrix has as many bytes as before and the change can
//! be undone.
//!
//! | type | bytes of a block in each plane |
//! | --- | --- |
//! | `Q4_0` | quants 16, `d` 2 |
//! | `Q8_0` | quants 32, `d` 2 |
//! | `Q4_K` | quants 128 (pieces of 16: 0, 2, 4, 6, 1, 3, 5, 7), `d`, `dmin` and packed scales 16 |
//! | `Q5_K` | low bits 128 (as in `Q4_K`), high bits 32, `d`, `dmin` and packed scales 16 |
//! | `Q6_K` | low bits 128 (pieces 0, 1, 4, 5, 2, 3, 6, 7), high bits 64, scales 16, `d` 2 |
//! | `F32`, `F16`, `BF16` | the whole element: the order is GGUF's |
//!
//! In a block type every plane begins at a multiple of 16 bytes from the start of the matrix, and a block's part of it is
//! a multiple of 16 bytes too, but for a lone `d`: aligned loads of 16 bytes read a plane from end to end.
//!
//! A run of rows is one piece of every plane, not one piece of the matrix.

use std::ops::Range;

use crate::{ElementType, FormatError};

/// One plane of a type: the bytes of each block that lie in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plane {
    /// Where the bytes are in a GGUF block.
    pub source: Range<usize>,
    /// Which pieces of [`PIECE`] bytes of `source` follow each other in the plane; empty if they keep their order.
    pub pieces: &'static [u8],
}

/// Bytes that keep their order.
pub const PIECE: usize = 16;

impl Plane {
    /// Where byte `index` of a block's part of the plane is in the block.
    const fn byte(&self, index: usize) -> usize {
        let piece = index / PIECE;
        let piece = if self.pieces.is_empty() { piece } else { self.pieces[piece] as usize };
        self.source.start + piece * PIECE + index % PIECE
    }

    /// The bytes of one block in this plane.
    pub const fn block_bytes(&self) -> usize {
        self.source.end - self.source.start
    }
}

impl ElementType {
    /// The planes of a weight type in the order of a device; each byte of a block is in one of them. None for the
    /// types that no GGUF file holds, which have the same layout everywhere.
    pub const fn planes(self) -> &'static [Plane] {
        const HALVES: [u8; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        const ROWS: [u8; 8] = [0, 1, 4, 5, 2, 3, 6, 7];
        match self {
            Self::F32 => &[Plane { source: 0..4, pieces: &[] }],
            Self::F16 | Self::BF16 => &[Plane { source: 0..2, pieces: &[] }],
            Self::Q4_0 => &[Plane { source: 2..18, pieces: &[] }, Plane { source: 0..2, pieces: &[] }],
            Self::Q8_0 => &[Plane { source: 2..34, pieces: &[] }, Plane { source: 0..2, pieces: &[] }],
            Self::Q4_K => &[Plane { source: 16..144, pieces: &HALVES }, Plane { source: 0..16, pieces: &[] }],
            Self::Q5_K => &[
                Plane { source: 48..176, pieces: &HALVES },
                Plane { source: 16..48, pieces: &[] },
                Plane { source: 0..16, pieces: &[] },
            ],
            Self::Q6_K => &[
                Plane { source: 0..128, pieces: &ROWS },
                Plane { source: 128..192, pieces: &[] },
                Plane { source: 192..208, pieces: &[] },
                Plane { source: 208..210, pieces: &[] },
            ],
            Self::Q8Act | Self::F8E4M3 | Self::U32 => &[],
        }
    }
}

/// Where the planes of a matrix `[rows, cols]` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneLayout {
    element: ElementType,
    rows: usize,
    /// Blocks in a row.
    blocks: usize,
    bytes: usize,
}

/// A plane within a matrix. The bytes of block `b` of row `r` begin at `offset + r * row_bytes + b * block_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneSpan {
    /// Where the plane begins, in bytes from the start of the matrix.
    pub offset: usize,
    /// Bytes of one row.
    pub row_bytes: usize,
    /// Bytes of one block.
    pub block_bytes: usize,
    /// Bytes of all rows.
    pub bytes: usize,
}

impl PlaneLayout {
    /// The layout of a matrix `[rows, cols]` of type `element`.
    ///
    /// # Errors
    /// [`FormatError::NotDefined`] if `element` is no weight type; as [`ElementType::matrix_bytes`].
    pub fn new(element: ElementType, rows: usize, cols: usize) -> Result<Self, FormatError> {
        if !element.is_weight() {
            return Err(FormatError::NotDefined { operation: "a layout in planes", ty: element });
        }
        let bytes = element.matrix_bytes(rows, cols)?;
        Ok(Self { element, rows, blocks: cols / element.block_elements(), bytes })
    }

    /// The element type.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Bytes of the matrix, in this layout as in GGUF's.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The planes in order, as [`ElementType::planes`] lists them: the first begins at 0, each ends where the next begins.
    pub fn planes(&self) -> impl Iterator<Item = PlaneSpan> + use<> {
        let Self { element, rows, blocks, .. } = *self;
        let mut offset = 0;
        element.planes().iter().map(move |plane| {
            let block_bytes = plane.block_bytes();
            let row_bytes = blocks * block_bytes;
            let span = PlaneSpan { offset, row_bytes, block_bytes, bytes: rows * row_bytes };
            offset += span.bytes;
            span
        })
    }
}

/// Writes a matrix given in GGUF's order to `out` in planes.
///
/// # Errors
/// As [`PlaneLayout::new`]; [`FormatError::Length`] if `gguf` or `out` is not as long as the matrix.
pub fn to_planes(
    element: ElementType,
    rows: usize,
    cols: usize,
    gguf: &[u8],
    out: &mut [u8],
) -> Result<(), FormatError> {
    let bytes = PlaneLayout::new(element, rows, cols)?.bytes();
    planes_range(element, rows, cols, gguf, 0..bytes, out)
}

/// Writes a matrix given in planes to `gguf` in GGUF's order: what [`to_planes`] does, undone.
///
/// # Errors
/// As [`to_planes`].
pub fn from_planes(
    element: ElementType,
    rows: usize,
    cols: usize,
    planes: &[u8],
    gguf: &mut [u8],
) -> Result<(), FormatError> {
    let layout = PlaneLayout::new(element, rows, cols)?;
    FormatError::check_len("bytes of a matrix in planes", layout.bytes, planes.len())?;
    FormatError::check_len("bytes of a GGUF matrix", layout.bytes, gguf.len())?;
    for (plane, span) in element.planes().iter().zip(layout.planes()) {
        let parts = planes[span.offset..][..span.bytes].chunks_exact(span.block_bytes);
        for (block, part) in gguf.chunks_exact_mut(element.block_bytes()).zip(parts) {
            if plane.pieces.is_empty() {
                block[plane.source.clone()].copy_from_slice(part);
            }
            for (piece, index) in part.chunks_exact(PIECE).zip(plane.pieces) {
                let start = plane.source.start + usize::from(*index) * PIECE;
                block[start..start + PIECE].copy_from_slice(piece);
            }
        }
    }
    Ok(())
}

/// Writes bytes `range` of the matrix in planes to `out`, from the whole matrix in GGUF's order: any range, so that a
/// loader can fill one staging buffer at a time, and threads one part of it each.
///
/// # Errors
/// As [`PlaneLayout::new`]; [`FormatError::Length`] if `gguf` is not as long as the matrix, `range` is not within it, or
/// `out` is not as long as `range`.
pub fn planes_range(
    element: ElementType,
    rows: usize,
    cols: usize,
    gguf: &[u8],
    range: Range<usize>,
    mut out: &mut [u8],
) -> Result<(), FormatError> {
    let layout = PlaneLayout::new(element, rows, cols)?;
    FormatError::check_len("bytes of a GGUF matrix", layout.bytes, gguf.len())?;
    if range.start > range.end || range.end > layout.bytes {
        let what = "end of a range of a matrix in planes";
        return Err(FormatError::Length { what, expected: layout.bytes, actual: range.end });
    }
    FormatError::check_len("bytes for a range of a matrix in planes", range.len(), out.len())?;
    for (plane, span) in element.planes().iter().zip(layout.planes()) {
        let begin = range.start.max(span.offset);
        let end = range.end.min(span.offset + span.bytes);
        if begin < end {
            let part;
            (part, out) = out.split_at_mut(end - begin);
            gather(gguf, element.block_bytes(), plane, begin - span.offset, part);
        }
    }
    Ok(())
}

/// Fills `out` with the bytes of one plane from its byte `first` on.
fn gather(gguf: &[u8], block_bytes: usize, plane: &Plane, first: usize, out: &mut [u8]) {
    let (source, width) = (&plane.source, plane.block_bytes());
    if width == block_bytes {
        return out.copy_from_slice(&gguf[first..][..out.len()]);
    }
    let (mut block, within) = (first / width, first % width);
    let mut out = out;
    if within > 0 {
        let head;
        (head, out) = out.split_at_mut(out.len().min(width - within));
        let bytes = &gguf[block * block_bytes..];
        head.iter_mut().zip(within..).for_each(|(to, index)| *to = bytes[plane.byte(index)]);
        block += 1;
    }
    let blocks = &gguf[block * block_bytes..];
    // With a width known to the compiler a copy is a few moves instead of a call.
    match width {
        _ if !plane.pieces.is_empty() => in_pieces(blocks, block_bytes, plane, out),
        2 => strided(blocks, block_bytes, source.start, 2, out),
        16 => strided(blocks, block_bytes, source.start, 16, out),
        32 => strided(blocks, block_bytes, source.start, 32, out),
        64 => strided(blocks, block_bytes, source.start, 64, out),
        _ => strided(blocks, block_bytes, source.start, width, out),
    }
}

/// Fills `out` with each block's part of a plane whose pieces change their order; the last may be cut short.
fn in_pieces(blocks: &[u8], block_bytes: usize, plane: &Plane, out: &mut [u8]) {
    const WIDTH: usize = 8 * PIECE;
    let (parts, tail) = out.split_at_mut(match plane.pieces.len() {
        8 => out.len() / WIDTH * WIDTH,
        _ => 0,
    });
    if let Ok(order) = <[u8; 8]>::try_from(plane.pieces) {
        for (part, block) in parts.chunks_exact_mut(WIDTH).zip(blocks.chunks_exact(block_bytes)) {
            let source = &block[plane.source.start..][..WIDTH];
            for (piece, from) in part.chunks_exact_mut(PIECE).zip(order) {
                // The mask spares a check: there are eight pieces.
                piece.copy_from_slice(&source[usize::from(from & 7) * PIECE..][..PIECE]);
            }
        }
    }
    let width = plane.block_bytes();
    let blocks = &blocks[parts.len() / width * block_bytes..];
    for (part, block) in tail.chunks_mut(width).zip(blocks.chunks_exact(block_bytes)) {
        for (index, piece) in part.chunks_mut(PIECE).enumerate() {
            let start = plane.byte(index * PIECE);
            piece.copy_from_slice(&block[start..start + piece.len()]);
        }
    }
}

/// Fills `out` with the `width` bytes at `at` of each block; the last may be cut short.
#[inline(always)]
fn strided(blocks: &[u8], block_bytes: usize, at: usize, width: usize, out: &mut [u8]) {
    let whole = out.len() / width;
    let (out, tail) = out.split_at_mut(whole * width);
    for (part, block) in out.chunks_exact_mut(width).zip(blocks.chunks_exact(block_bytes)) {
        part.copy_from_slice(&block[at..at + width]);
    }
    if !tail.is_empty() {
        tail.copy_from_slice(&blocks[whole * block_bytes + at..][..tail.len()]);
    }
}
