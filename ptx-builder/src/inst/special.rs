//! Special registers and inline text.

use super::{Arg, Role, Signature, What};
use crate::target::Requires;
use crate::ty::Ty;

macro_rules! special_registers {
    ($( $(#[$doc:meta])* $name:ident $text:literal $ty:ident $divergent:literal ($major:literal $minor:literal $sm:literal); )*) => {
        /// A read-only register that the hardware provides.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum SpecialReg { $( $(#[$doc])* $name, )* }

        impl SpecialReg {
            /// Every special register.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name with its percent sign.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its type: 32 or 64 bits unsigned.
            pub const fn ty(self) -> Ty {
                match self { $(Self::$name => Ty::$ty,)* }
            }

            /// Can it differ between the threads of a block?
            pub const fn is_divergent(self) -> bool {
                match self { $(Self::$name => $divergent,)* }
            }

            /// The PTX ISA version and target that it needs.
            pub const fn requires(self) -> Requires {
                match self { $(Self::$name => Requires::new($major, $minor, $sm),)* }
            }

            pub(crate) fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

impl SpecialReg {
    /// Can `mov` read it as a value of so many bits? Some had fewer once.
    pub(crate) fn has_bits(self, bits: u32) -> bool {
        let fewer: &[u32] = match self {
            Self::TidX | Self::TidY | Self::TidZ | Self::NtidX | Self::NtidY | Self::NtidZ => &[16],
            Self::CtaidX | Self::CtaidY | Self::CtaidZ | Self::NctaidX | Self::NctaidY | Self::NctaidZ => {
                &[16]
            }
            Self::GridId => &[16, 32],
            _ => &[],
        };
        bits == self.ty().bits() || fewer.contains(&bits)
    }
}

special_registers! {
    /// Thread index in the block, x.
    TidX "%tid.x" U32 true (1 0 50);
    /// Thread index in the block, y.
    TidY "%tid.y" U32 true (1 0 50);
    /// Thread index in the block, z.
    TidZ "%tid.z" U32 true (1 0 50);
    /// Block size, x.
    NtidX "%ntid.x" U32 false (1 0 50);
    /// Block size, y.
    NtidY "%ntid.y" U32 false (1 0 50);
    /// Block size, z.
    NtidZ "%ntid.z" U32 false (1 0 50);
    /// Block index in the grid, x.
    CtaidX "%ctaid.x" U32 false (1 0 50);
    /// Block index in the grid, y.
    CtaidY "%ctaid.y" U32 false (1 0 50);
    /// Block index in the grid, z.
    CtaidZ "%ctaid.z" U32 false (1 0 50);
    /// Grid size, x.
    NctaidX "%nctaid.x" U32 false (1 0 50);
    /// Grid size, y.
    NctaidY "%nctaid.y" U32 false (1 0 50);
    /// Grid size, z.
    NctaidZ "%nctaid.z" U32 false (1 0 50);
    /// Lane in the warp, 0 to 31.
    LaneId "%laneid" U32 true (1 3 50);
    /// Warp slot; it may change during execution, so it is no index to compute with.
    WarpId "%warpid" U32 true (1 3 50);
    /// Number of warp slots.
    NWarpId "%nwarpid" U32 false (2 0 50);
    /// The multiprocessor; it may change during execution.
    SmId "%smid" U32 false (1 3 50);
    /// Number of multiprocessor slots.
    NSmId "%nsmid" U32 false (2 0 50);
    /// Mask with the bit of this lane.
    LaneMaskEq "%lanemask_eq" U32 true (2 0 50);
    /// Mask of the lanes below this one.
    LaneMaskLt "%lanemask_lt" U32 true (2 0 50);
    /// Mask of this lane and those below.
    LaneMaskLe "%lanemask_le" U32 true (2 0 50);
    /// Mask of the lanes above this one.
    LaneMaskGt "%lanemask_gt" U32 true (2 0 50);
    /// Mask of this lane and those above.
    LaneMaskGe "%lanemask_ge" U32 true (2 0 50);
    /// Cycle counter, lower half.
    Clock "%clock" U32 true (1 0 50);
    /// Cycle counter.
    Clock64 "%clock64" U64 true (2 0 50);
    /// Cycle counter, upper half.
    ClockHi "%clock_hi" U32 true (5 0 50);
    /// Nanoseconds, lower half.
    GlobalTimerLo "%globaltimer_lo" U32 true (3 1 50);
    /// Nanoseconds, upper half.
    GlobalTimerHi "%globaltimer_hi" U32 true (3 1 50);
    /// Number of the launch in its context.
    GridId "%gridid" U64 false (3 0 50);
    /// Nanoseconds.
    GlobalTimer "%globaltimer" U64 true (3 1 50);
    /// Bytes of dynamic shared memory of the launch.
    DynamicSmemSize "%dynamic_smem_size" U32 false (4 1 50);
    /// Bytes of shared memory of the block, static and dynamic.
    TotalSmemSize "%total_smem_size" U32 false (4 1 50);
    /// Where the second part of the shared memory that the system reserves begins.
    ReservedSmemOffset1 "%reserved_smem_offset_1" U32 false (7 6 80);
    /// Lower half of the address of the words that a grid synchronises by, of a launch whose blocks run at once.
    EnvReg1 "%envreg1" U32 false (3 0 50);
    /// The upper half.
    EnvReg2 "%envreg2" U32 false (3 0 50);
    /// Block index in the cluster, x.
    ClusterCtaidX "%cluster_ctaid.x" U32 false (7 8 90);
    /// Block index in the cluster, y.
    ClusterCtaidY "%cluster_ctaid.y" U32 false (7 8 90);
    /// Block index in the cluster, z.
    ClusterCtaidZ "%cluster_ctaid.z" U32 false (7 8 90);
    /// Cluster size in blocks, x.
    ClusterNctaidX "%cluster_nctaid.x" U32 false (7 8 90);
    /// Cluster size in blocks, y.
    ClusterNctaidY "%cluster_nctaid.y" U32 false (7 8 90);
    /// Cluster size in blocks, z.
    ClusterNctaidZ "%cluster_nctaid.z" U32 false (7 8 90);
    /// Cluster index in the grid, x.
    ClusterIdX "%clusterid.x" U32 false (7 8 90);
    /// Cluster index in the grid, y.
    ClusterIdY "%clusterid.y" U32 false (7 8 90);
    /// Cluster index in the grid, z.
    ClusterIdZ "%clusterid.z" U32 false (7 8 90);
    /// Grid size in clusters, x.
    NClusterIdX "%nclusterid.x" U32 false (7 8 90);
    /// Grid size in clusters, y.
    NClusterIdY "%nclusterid.y" U32 false (7 8 90);
    /// Grid size in clusters, z.
    NClusterIdZ "%nclusterid.z" U32 false (7 8 90);
    /// Rank of the block in the cluster.
    ClusterCtaRank "%cluster_ctarank" U32 false (7 8 90);
    /// Number of blocks in the cluster.
    ClusterNctaRank "%cluster_nctarank" U32 false (7 8 90);
}

/// Up to 64 results and any number of inputs; written by the text itself, so grouped in two vectors.
pub(super) fn inline_signature(defs: u8, operands: usize) -> Signature {
    let uses = u8::try_from(operands.saturating_sub(usize::from(defs))).unwrap_or(u8::MAX);
    let mut signature = Signature::new(&[]);
    signature.push(Arg { role: Role::Def, ..Arg::one(What::Any) }.vector(defs));
    signature.push(Arg::one(What::Any).vector(uses));
    signature
}

pub(super) fn inline_problems(text: &str, report: &mut dyn FnMut(String)) {
    if text.trim().is_empty() {
        report("inline text is empty".to_owned());
    }
    if text.contains("//") || text.contains("/*") {
        report("inline text contains a comment, which the parser could not give back".to_owned());
    }
    if text.contains('{') || text.contains('}') {
        let mut depth = 0i64;
        let balanced = text.chars().all(|c| {
            depth += i64::from(c == '{') - i64::from(c == '}');
            depth >= 0
        });
        if !balanced || depth != 0 {
            report("inline text has unbalanced braces".to_owned());
        }
    }
}
