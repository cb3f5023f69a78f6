//! Device attributes, by name.

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        /// An attribute of a device, for [`Device::attribute`](crate::Device::attribute).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        #[non_exhaustive]
        pub enum DeviceAttribute {
            $($(#[$doc])* $name = $value,)*
        }

        impl DeviceAttribute {
            /// Every attribute that is listed.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

attributes! {
    /// Most threads per block.
    MaxThreadsPerBlock = 1;
    /// Most threads per block along x.
    MaxBlockDimX = 2;
    /// Most threads per block along y.
    MaxBlockDimY = 3;
    /// Most threads per block along z.
    MaxBlockDimZ = 4;
    /// Most blocks per grid along x.
    MaxGridDimX = 5;
    /// Most blocks per grid along y.
    MaxGridDimY = 6;
    /// Most blocks per grid along z.
    MaxGridDimZ = 7;
    /// Shared memory per block without opting in, bytes.
    MaxSharedMemoryPerBlock = 8;
    /// Constant memory, bytes.
    TotalConstantMemory = 9;
    /// Threads per warp.
    WarpSize = 10;
    /// 32-bit registers per block.
    MaxRegistersPerBlock = 12;
    /// Typical core clock, kHz.
    ClockRate = 13;
    /// Number of multiprocessors.
    MultiprocessorCount = 16;
    /// Nonzero where kernels have a time limit.
    KernelExecTimeout = 17;
    /// Nonzero where the device shares the host's memory.
    Integrated = 18;
    /// Nonzero where pinned host memory can be mapped.
    CanMapHostMemory = 19;
    /// Compute mode: 0 shared, 2 prohibited, 3 one process.
    ComputeMode = 20;
    /// Nonzero where kernels can run side by side.
    ConcurrentKernels = 31;
    /// Nonzero where ECC is on.
    EccEnabled = 32;
    /// PCI bus.
    PciBusId = 33;
    /// PCI device.
    PciDeviceId = 34;
    /// Peak memory clock, kHz.
    MemoryClockRate = 36;
    /// Width of the memory bus, bits.
    GlobalMemoryBusWidth = 37;
    /// Size of the L2 cache, bytes.
    L2CacheSize = 38;
    /// Most resident threads per multiprocessor.
    MaxThreadsPerMultiprocessor = 39;
    /// Copy engines.
    AsyncEngineCount = 40;
    /// Nonzero where host and device share one address space.
    UnifiedAddressing = 41;
    /// PCI domain.
    PciDomainId = 50;
    /// Major compute capability.
    ComputeCapabilityMajor = 75;
    /// Minor compute capability.
    ComputeCapabilityMinor = 76;
    /// Nonzero where streams have priorities.
    StreamPrioritiesSupported = 78;
    /// Shared memory per multiprocessor, bytes.
    MaxSharedMemoryPerMultiprocessor = 81;
    /// 32-bit registers per multiprocessor.
    MaxRegistersPerMultiprocessor = 82;
    /// Nonzero where cooperative launches are possible.
    CooperativeLaunch = 95;
    /// Shared memory per block for kernels that opt in, bytes.
    MaxSharedMemoryPerBlockOptin = 97;
    /// Most resident blocks per multiprocessor.
    MaxBlocksPerMultiprocessor = 106;
    /// Most L2 that can be set aside for persisting lines, bytes.
    MaxPersistingL2CacheSize = 108;
    /// Shared memory per block that the driver keeps for itself, bytes.
    ReservedSharedMemoryPerBlock = 111;
    /// Nonzero where stream-ordered allocation is possible.
    MemoryPoolsSupported = 115;
    /// Nonzero where launches can have clusters.
    ClusterLaunch = 120;
    /// Nonzero where tensor maps can be used.
    TensorMapAccessSupported = 127;
    /// Nonzero where switch multicast is possible.
    MulticastSupported = 132;
}

#[cfg(test)]
mod tests {
    use super::DeviceAttribute as A;

    #[test]
    fn numbers_are_those_of_the_header() {
        assert_eq!(A::MultiprocessorCount as i32, 16);
        assert_eq!(A::ComputeCapabilityMajor as i32, 75);
        assert_eq!(A::MaxSharedMemoryPerBlockOptin as i32, 97);
        assert_eq!(A::ClusterLaunch as i32, 120);
        assert!(A::ALL.windows(2).all(|w| (w[0] as i32) < (w[1] as i32)));
    }
}
