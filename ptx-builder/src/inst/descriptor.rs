//! Where `wgmma` finds a matrix in shared memory: "Matrix Descriptor Format" and "Shared Memory Matrix Layout" of the
//! PTX ISA.

/// Bytes of the chunks that layouts consist of.
const CHUNK: u32 = 16;

/// How the chunks of a line of 128 bytes change places, so that the rows of a matrix are in different banks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Swizzle {
    /// They do not.
    #[default]
    None,
    /// Pairs of chunks, rows of 32 bytes.
    Bytes32,
    /// Four chunks, rows of 64 bytes.
    Bytes64,
    /// Eight chunks, rows of 128 bytes.
    Bytes128,
}

impl Swizzle {
    /// Every one, in the order of the bits in a descriptor.
    const ENCODED: [Self; 4] = [Self::None, Self::Bytes128, Self::Bytes64, Self::Bytes32];

    /// Bytes of a row of a tile of eight rows.
    pub const fn row_bytes(self) -> u32 {
        match self {
            Self::None => CHUNK,
            Self::Bytes32 => 32,
            Self::Bytes64 => 64,
            Self::Bytes128 => 128,
        }
    }
}

/// A matrix in shared memory, of which `wgmma` reads 32 bytes along K.
///
/// It consists of tiles of eight rows of [`Swizzle::row_bytes`]. A row of a tile is a part of a row of A (a column of B), or,
/// where the matrix lies transposed, of what is at one depth. In bytes, multiples of 16 below 2^18.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MatrixDescriptor {
    /// The first byte, in the shared memory of the block.
    pub start: u32,
    /// From a tile to the next in the direction of its rows; where a row of a tile is all that is read, it does not count.
    /// Without swizzling a transposed matrix has it the other way round.
    pub leading: u32,
    /// From a tile to the next across its rows.
    pub stride: u32,
    /// The line of 128 bytes, of eight, at which the pattern of swizzling begins; 0 where that is a multiple of 1024 bytes.
    pub phase: u8,
    /// How chunks change places.
    pub swizzle: Swizzle,
}

impl MatrixDescriptor {
    /// The 64 bits that the instruction takes; what is no multiple of 16, or too large, loses bits.
    pub fn bits(self) -> u64 {
        let field = |bytes: u32| u64::from(bytes & 0x3_FFFF) / u64::from(CHUNK);
        let swizzle = (0..).zip(Swizzle::ENCODED).find(|(_, swizzle)| *swizzle == self.swizzle);
        field(self.start)
            | field(self.leading) << 16
            | field(self.stride) << 32
            | u64::from(self.phase & 7) << 49
            | swizzle.map_or(0, |(bits, _)| bits) << 62
    }

    /// What 64 bits say.
    pub fn from_bits(bits: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "fields of at most 14 bits")]
        let field = |at: u32, width: u32| (bits >> at) as u32 & ((1 << width) - 1);
        Self {
            start: field(0, 14) * CHUNK,
            leading: field(16, 14) * CHUNK,
            stride: field(32, 14) * CHUNK,
            phase: u8::try_from(field(49, 3)).unwrap_or(0),
            swizzle: Swizzle::ENCODED[field(62, 2) as usize],
        }
    }

    /// The address of 16 bytes of row (or column) `i`: the first of the 32 along K or, for `half` 1, the second.
    pub fn along_depth(self, i: u32, half: u32) -> u32 {
        let next = if self.swizzle == Swizzle::None { self.leading } else { CHUNK };
        self.at(i % 8 * self.swizzle.row_bytes() + i / 8 * self.stride + half * next)
    }

    /// The address of eight elements of 16 bits at depth `k` of a matrix that lies transposed: rows (or columns) from
    /// `8 * group` on.
    pub fn across_depth(self, group: u32, k: u32) -> u32 {
        let row = self.swizzle.row_bytes();
        let (across, down) = match self.swizzle {
            Swizzle::None => (self.stride, self.leading),
            _ => (self.leading, self.stride),
        };
        let chunks = row / CHUNK;
        self.at(k % 8 * row + k / 8 * down + group % chunks * CHUNK + group / chunks * across)
    }

    /// The chunks of a line change places by the number of the line.
    fn at(self, offset: u32) -> u32 {
        let address = self.start.wrapping_add(offset);
        let line = (address / 128).wrapping_sub(u32::from(self.phase));
        let chunk = line & (self.swizzle.row_bytes() / CHUNK - 1);
        address ^ (chunk * CHUNK)
    }
}
