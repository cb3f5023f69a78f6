//! What the simulated parts are: one real GPU for each target, with the attributes that its driver reports.
//!
//! Numbers are those of the parts themselves. What this driver does not implement (tensor maps,
//! multicast, virtual memory management, IPC) reads as absent, whatever the part has.

use std::ffi::c_int;

use ptx_builder::Target;

/// A GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Its name, as the driver gives it.
    pub name: &'static str,
    /// Compute capability, `10 * major + minor`.
    pub capability: u32,
    /// Device memory in bytes.
    pub memory: u64,
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// Core clock, kHz.
    pub clock_khz: u32,
    /// Memory clock, kHz.
    pub memory_clock_khz: u32,
    /// Width of the memory bus, bits.
    pub bus_bits: u32,
    /// L2 cache, bytes.
    pub l2_bytes: u32,
    /// Most of the L2 that persisting lines may take, bytes.
    pub persisting_l2_bytes: u32,
    /// Resident threads per multiprocessor.
    pub threads_per_multiprocessor: u32,
    /// Resident blocks per multiprocessor.
    pub blocks_per_multiprocessor: u32,
    /// Shared memory per multiprocessor, bytes.
    pub shared_per_multiprocessor: u32,
    /// Shared memory per block for kernels that opt in, bytes.
    pub shared_per_block_optin: u32,
    /// Shared memory of a block that the driver keeps for itself, bytes.
    pub reserved_shared: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// Whether memory has ECC.
    pub ecc: bool,
    /// Ratio of single to double precision throughput.
    pub double_ratio: u32,
}

/// Shared memory per block without opting in, bytes: the same for every part.
pub(crate) const SHARED_PER_BLOCK: u32 = 48 << 10;
/// Most threads per block: the same for every part.
pub(crate) const THREADS_PER_BLOCK: u32 = 1024;
/// Most threads per block along each dimension.
pub(crate) const BLOCK_DIMS: [u32; 3] = [1024, 1024, 64];
/// Most blocks per grid along each dimension.
pub(crate) const GRID_DIMS: [u32; 3] = [0x7fff_ffff, 65_535, 65_535];
/// Registers per multiprocessor and per block.
pub(crate) const REGISTERS: u32 = 65_536;
/// Blocks of a cluster that every device with clusters can place.
pub(crate) const PORTABLE_CLUSTER: u64 = 8;
/// Blocks of a cluster for kernels that allow non-portable sizes.
pub(crate) const LARGEST_CLUSTER: u64 = 16;

const T4: DeviceProfile = DeviceProfile {
    name: "Tesla T4",
    capability: 75,
    memory: 15_655_829_504,
    multiprocessors: 40,
    clock_khz: 1_590_000,
    memory_clock_khz: 5_001_000,
    bus_bits: 256,
    l2_bytes: 4 << 20,
    persisting_l2_bytes: 0,
    threads_per_multiprocessor: 1024,
    blocks_per_multiprocessor: 16,
    shared_per_multiprocessor: 64 << 10,
    shared_per_block_optin: 64 << 10,
    reserved_shared: 0,
    copy_engines: 3,
    ecc: true,
    double_ratio: 32,
};

const A100: DeviceProfile = DeviceProfile {
    name: "NVIDIA A100-SXM4-80GB",
    capability: 80,
    memory: 85_097_971_712,
    multiprocessors: 108,
    clock_khz: 1_410_000,
    memory_clock_khz: 1_593_000,
    bus_bits: 5120,
    l2_bytes: 40 << 20,
    persisting_l2_bytes: 25 << 20,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    shared_per_multiprocessor: 164 << 10,
    shared_per_block_optin: 163 << 10,
    reserved_shared: 1024,
    copy_engines: 3,
    ecc: true,
    double_ratio: 2,
};

const A10: DeviceProfile = DeviceProfile {
    name: "NVIDIA A10",
    capability: 86,
    memory: 23_609_475_072,
    multiprocessors: 72,
    clock_khz: 1_695_000,
    memory_clock_khz: 6_251_000,
    bus_bits: 384,
    l2_bytes: 6 << 20,
    persisting_l2_bytes: 4_325_376,
    threads_per_multiprocessor: 1536,
    blocks_per_multiprocessor: 16,
    shared_per_multiprocessor: 100 << 10,
    shared_per_block_optin: 99 << 10,
    reserved_shared: 1024,
    copy_engines: 2,
    ecc: true,
    double_ratio: 32,
};

const L4: DeviceProfile = DeviceProfile {
    name: "NVIDIA L4",
    capability: 89,
    memory: 23_576_870_912,
    multiprocessors: 58,
    clock_khz: 2_040_000,
    memory_clock_khz: 6_251_000,
    bus_bits: 192,
    l2_bytes: 48 << 20,
    persisting_l2_bytes: 33 << 20,
    threads_per_multiprocessor: 1536,
    blocks_per_multiprocessor: 24,
    shared_per_multiprocessor: 100 << 10,
    shared_per_block_optin: 99 << 10,
    reserved_shared: 1024,
    copy_engines: 2,
    ecc: true,
    double_ratio: 64,
};

const H200: DeviceProfile = DeviceProfile {
    name: "NVIDIA H200",
    capability: 90,
    memory: 150_121_545_728,
    multiprocessors: 132,
    clock_khz: 1_980_000,
    memory_clock_khz: 3_201_000,
    bus_bits: 6144,
    l2_bytes: 60 << 20,
    persisting_l2_bytes: 37_486_592,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    shared_per_multiprocessor: 228 << 10,
    shared_per_block_optin: 227 << 10,
    reserved_shared: 1024,
    copy_engines: 3,
    ecc: true,
    double_ratio: 2,
};

const B200: DeviceProfile = DeviceProfile {
    name: "NVIDIA B200",
    capability: 100,
    memory: 191_504_973_824,
    multiprocessors: 148,
    clock_khz: 1_965_000,
    memory_clock_khz: 3_996_000,
    bus_bits: 7680,
    l2_bytes: 126 << 20,
    persisting_l2_bytes: 79 << 20,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    shared_per_multiprocessor: 228 << 10,
    shared_per_block_optin: 227 << 10,
    reserved_shared: 1024,
    copy_engines: 4,
    ecc: true,
    double_ratio: 2,
};

const RTX_5090: DeviceProfile = DeviceProfile {
    name: "NVIDIA GeForce RTX 5090",
    capability: 120,
    memory: 33_669_775_360,
    multiprocessors: 170,
    clock_khz: 2_407_000,
    memory_clock_khz: 14_001_000,
    bus_bits: 512,
    l2_bytes: 96 << 20,
    persisting_l2_bytes: 60 << 20,
    threads_per_multiprocessor: 1536,
    blocks_per_multiprocessor: 24,
    shared_per_multiprocessor: 100 << 10,
    shared_per_block_optin: 99 << 10,
    reserved_shared: 1024,
    copy_engines: 2,
    ecc: false,
    double_ratio: 64,
};

impl DeviceProfile {
    /// Every part, by capability.
    pub const ALL: &'static [Self] = &[T4, A100, A10, L4, H200, B200, RTX_5090];

    /// The part of a target's architecture.
    pub fn of(target: Target) -> &'static Self {
        // Every known target has a part; the test below says so.
        Self::ALL.iter().find(|part| part.capability == target.sm()).unwrap_or(&Self::ALL[4])
    }

    /// Major and minor compute capability.
    pub const fn version(&self) -> (u32, u32) {
        (self.capability / 10, self.capability % 10)
    }

    /// Whether launches can have clusters.
    pub const fn clusters(&self) -> bool {
        self.capability >= 90
    }

    /// The value of a `CUdevice_attribute`, or `None` for a number that the driver does not know. The PCI address is
    /// the ordinal's.
    pub(crate) fn attribute(&self, attribute: c_int, ordinal: u32) -> Option<c_int> {
        let (major, minor) = self.version();
        let value = match attribute {
            1 => THREADS_PER_BLOCK,
            2 => BLOCK_DIMS[0],
            3 => BLOCK_DIMS[1],
            4 => BLOCK_DIMS[2],
            5 => GRID_DIMS[0],
            6 => GRID_DIMS[1],
            7 => GRID_DIMS[2],
            8 => SHARED_PER_BLOCK,
            9 => 64 << 10,
            10 => 32,
            11 => 0x7fff_ffff,
            12 | 82 => REGISTERS,
            13 => self.clock_khz,
            14 => 512,
            15 => 1,
            16 => self.multiprocessors,
            19 | 31 | 41 => 1,
            32 => u32::from(self.ecc),
            33 => ordinal + 1,
            34 | 50 => 0,
            36 => self.memory_clock_khz,
            37 => self.bus_bits,
            38 => self.l2_bytes,
            39 => self.threads_per_multiprocessor,
            40 => self.copy_engines,
            51 => 32,
            75 => major,
            76 => minor,
            78..=80 | 83 | 89 | 95 => 1,
            81 => self.shared_per_multiprocessor,
            87 => self.double_ratio,
            90 | 91 => 1,
            97 => self.shared_per_block_optin,
            99 => 1,
            106 => self.blocks_per_multiprocessor,
            108 => self.persisting_l2_bytes,
            109 => 128 << 20,
            111 => self.reserved_shared,
            115 => 1,
            120 => u32::from(self.clusters()),
            // Known to the driver; here absent, zero, or of features that are not implemented.
            17 | 18 | 20..=30 | 35 | 42..=49 | 52..=74 | 77 | 84..=86 | 88 | 92..=94 | 96 | 98 => 0,
            100..=105 | 107 | 110 | 112..=114 | 116..=119 | 121..=141 => 0,
            _ => return None,
        };
        Some(c_int::try_from(value).unwrap_or(c_int::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpu_driver::DeviceAttribute;

    #[test]
    fn every_target_has_its_part_and_every_attribute_a_value() {
        for target in Target::all() {
            let part = DeviceProfile::of(*target);
            assert_eq!(part.capability, target.sm(), "{target}");
            for attribute in DeviceAttribute::ALL {
                assert!(part.attribute(*attribute as c_int, 0).is_some_and(|v| v >= 0), "{attribute:?}");
            }
        }
        assert_eq!(DeviceProfile::of(Target::SM_75).attribute(0, 0), None);
        assert_eq!(DeviceProfile::of(Target::SM_75).attribute(10_000, 0), None);
    }

    #[test]
    fn clusters_came_with_hopper() {
        let has = |target| DeviceProfile::of(target).attribute(DeviceAttribute::ClusterLaunch as c_int, 0);
        assert_eq!((has(Target::SM_89), has(Target::SM_90)), (Some(0), Some(1)));
    }
}
