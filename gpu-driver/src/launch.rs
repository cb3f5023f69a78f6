//! Launch geometry, checked before the driver sees it.

use crate::device::DeviceLimits;
use crate::function::Function;
use crate::sys::{
    CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
    CUlaunchAttribute, CUlaunchAttributeValue,
};
use std::fmt;

/// A size in three dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dim3 {
    /// Fastest-varying dimension.
    pub x: u32,
    /// Second dimension.
    pub y: u32,
    /// Slowest-varying dimension.
    pub z: u32,
}

impl Dim3 {
    /// `x` by `y` by `z`.
    pub const fn new(x: u32, y: u32, z: u32) -> Self {
        Self { x, y, z }
    }

    /// The product of the three, at most `u64::MAX`.
    pub fn count(self) -> u64 {
        // Two 32-bit factors fit 64 bits, three may not.
        (u64::from(self.y) * u64::from(self.z)).saturating_mul(u64::from(self.x))
    }

    pub(crate) fn to_array(self) -> [u32; 3] {
        [self.x, self.y, self.z]
    }

    fn exceeds(self, limit: Self) -> bool {
        self.x > limit.x || self.y > limit.y || self.z > limit.z
    }

    fn has_zero(self) -> bool {
        self.x == 0 || self.y == 0 || self.z == 0
    }
}

impl From<u32> for Dim3 {
    fn from(x: u32) -> Self {
        Self { x, y: 1, z: 1 }
    }
}

impl From<(u32, u32)> for Dim3 {
    fn from((x, y): (u32, u32)) -> Self {
        Self { x, y, z: 1 }
    }
}

impl From<(u32, u32, u32)> for Dim3 {
    fn from((x, y, z): (u32, u32, u32)) -> Self {
        Self { x, y, z }
    }
}

impl fmt::Display for Dim3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.x, self.y, self.z)
    }
}

/// The geometry of a launch.
///
/// ```
/// use gpu_driver::LaunchConfig;
/// let config = LaunchConfig::new(132, (32, 8)).with_dynamic_shared(64 << 10);
/// assert_eq!(config.block.count(), 256);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaunchConfig {
    /// Blocks.
    pub grid: Dim3,
    /// Threads per block.
    pub block: Dim3,
    /// Dynamic shared memory per block, bytes. Together with static shared memory above 48 KiB it needs
    /// [`Function::allow_dynamic_shared`].
    pub dynamic_shared_bytes: u32,
    /// Blocks per cluster. More than 8 need [`Function::allow_non_portable_clusters`].
    pub cluster: Option<Dim3>,
    /// Start before the previous kernel in the stream has finished; the kernel must order itself by
    /// `griddepcontrol.wait`. In a graph a programmatic edge says the same.
    pub programmatic_serialization: bool,
}

/// Most launch attributes that a configuration can need.
pub(crate) const MAX_ATTRIBUTES: usize = 2;

/// Largest cluster that every device with clusters admits.
const PORTABLE_CLUSTER: u64 = 8;

/// Largest cluster that any device admits.
const MAX_CLUSTER: u64 = 16;

pub(crate) fn no_clusters(limits: &DeviceLimits) -> String {
    format!("a device of capability {} has no clusters", limits.compute_capability)
}

impl LaunchConfig {
    /// `grid` blocks of `block` threads.
    pub fn new(grid: impl Into<Dim3>, block: impl Into<Dim3>) -> Self {
        Self {
            grid: grid.into(),
            block: block.into(),
            dynamic_shared_bytes: 0,
            cluster: None,
            programmatic_serialization: false,
        }
    }

    /// With dynamic shared memory, in bytes.
    #[must_use]
    pub fn with_dynamic_shared(self, bytes: u32) -> Self {
        Self { dynamic_shared_bytes: bytes, ..self }
    }

    /// With clusters of `cluster` blocks.
    #[must_use]
    pub fn with_cluster(self, cluster: impl Into<Dim3>) -> Self {
        Self { cluster: Some(cluster.into()), ..self }
    }

    /// With programmatic stream serialisation.
    #[must_use]
    pub fn with_programmatic_serialization(self) -> Self {
        Self { programmatic_serialization: true, ..self }
    }

    pub(crate) fn attributes(&self) -> ([CUlaunchAttribute; MAX_ATTRIBUTES], usize) {
        let mut attributes =
            [CUlaunchAttribute { id: 0, pad: [0; 4], value: CUlaunchAttributeValue::ZERO }; 2];
        let mut n = 0;
        if let Some(cluster) = self.cluster {
            attributes[n].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
            attributes[n].value.cluster_dim = cluster.to_array();
            n += 1;
        }
        if self.programmatic_serialization {
            attributes[n].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
            attributes[n].value.programmatic_stream_serialization = 1;
            n += 1;
        }
        (attributes, n)
    }

    /// What is wrong with it for `function` on a device with `limits`.
    pub(crate) fn check(&self, function: &Function, limits: &DeviceLimits) -> Result<(), String> {
        self.check_geometry(function.attributes().max_threads_per_block, limits)?;
        let allowed = function.allowed();
        if self.dynamic_shared_bytes > allowed.dynamic_shared {
            return Err(format!(
                "{} bytes of dynamic shared memory, but {} are allowed beside {} static ones; \
                 Function::allow_dynamic_shared raises that to {} in all",
                self.dynamic_shared_bytes,
                allowed.dynamic_shared,
                function.attributes().static_shared_bytes,
                limits.shared_per_block_optin
            ));
        }
        if let Some(cluster) = self.cluster
            && cluster.count() > PORTABLE_CLUSTER
            && !allowed.non_portable_clusters
        {
            return Err(format!(
                "cluster {cluster}: more than {PORTABLE_CLUSTER} blocks need Function::allow_non_portable_clusters"
            ));
        }
        Ok(())
    }

    fn check_geometry(&self, kernel_threads: u32, limits: &DeviceLimits) -> Result<(), String> {
        let Self { grid, block, .. } = *self;
        if grid.has_zero() || block.has_zero() {
            return Err(format!("grid {grid}, block {block}: a dimension is zero"));
        }
        if block.exceeds(limits.max_block) {
            return Err(format!("block {block} exceeds the device's {}", limits.max_block));
        }
        if grid.exceeds(limits.max_grid) {
            return Err(format!("grid {grid} exceeds the device's {}", limits.max_grid));
        }
        let threads = block.count();
        if threads > u64::from(limits.max_threads_per_block) {
            let most = limits.max_threads_per_block;
            return Err(format!("{threads} threads per block exceed the device's {most}"));
        }
        if threads > u64::from(kernel_threads) {
            return Err(format!(
                "{threads} threads per block exceed the kernel's {kernel_threads} (its registers or .maxntid)"
            ));
        }
        if let Some(cluster) = self.cluster {
            if !limits.cluster_launch {
                return Err(format!("cluster {cluster}: {}", no_clusters(limits)));
            }
            if cluster.has_zero() || cluster.count() > MAX_CLUSTER {
                return Err(format!("cluster {cluster}: must have 1 to {MAX_CLUSTER} blocks"));
            }
            let divides = grid.x.is_multiple_of(cluster.x)
                && grid.y.is_multiple_of(cluster.y)
                && grid.z.is_multiple_of(cluster.z);
            if !divides {
                return Err(format!("cluster {cluster} does not divide grid {grid}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::ComputeCapability;

    fn limits() -> DeviceLimits {
        DeviceLimits {
            compute_capability: ComputeCapability { major: 9, minor: 0 },
            multiprocessors: 132,
            warp_size: 32,
            max_threads_per_block: 1024,
            max_block: Dim3::new(1024, 1024, 64),
            max_grid: Dim3::new(0x7fff_ffff, 65_535, 65_535),
            shared_per_block: 48 << 10,
            shared_per_block_optin: 227 << 10,
            shared_per_multiprocessor: 228 << 10,
            cluster_launch: true,
        }
    }

    #[track_caller]
    fn refused(config: LaunchConfig, kernel_threads: u32, wanted: &str) {
        let message = config.check_geometry(kernel_threads, &limits()).expect_err("accepted");
        assert!(message.contains(wanted), "{message}");
    }

    #[test]
    fn geometry_is_checked_against_device_and_kernel() {
        assert_eq!(LaunchConfig::new(1, 1024).check_geometry(1024, &limits()), Ok(()));
        refused(LaunchConfig::new(0, 32), 1024, "a dimension is zero");
        refused(LaunchConfig::new(1, (32, 0)), 1024, "a dimension is zero");
        refused(LaunchConfig::new(1, (1, 1, 65)), 1024, "exceeds the device's 1024x1024x64");
        refused(LaunchConfig::new((1, 65_536), 32), 1024, "grid 1x65536x1 exceeds");
        refused(LaunchConfig::new(1, (64, 32)), 1024, "2048 threads per block exceed the device's 1024");
        refused(LaunchConfig::new(1, 512), 256, "exceed the kernel's 256");
    }

    #[test]
    fn clusters_must_divide_the_grid_and_exist_on_the_device() {
        let config = LaunchConfig::new(8, 32);
        assert_eq!(config.with_cluster(4).check_geometry(1024, &limits()), Ok(()));
        refused(config.with_cluster(3), 1024, "does not divide");
        refused(config.with_cluster(0), 1024, "1 to 16 blocks");
        refused(LaunchConfig::new(64, 32).with_cluster(32), 1024, "1 to 16 blocks");
        let old = DeviceLimits { cluster_launch: false, ..limits() };
        assert!(config.with_cluster(2).check_geometry(1024, &old).is_err());
    }

    #[test]
    fn huge_dimensions_do_not_wrap() {
        assert_eq!(Dim3::new(u32::MAX, 1, 1).count(), u64::from(u32::MAX));
        let most = Dim3::new(1, u32::MAX, u32::MAX).count();
        assert_eq!(most, u64::from(u32::MAX) * u64::from(u32::MAX));
        refused(LaunchConfig::new(1, (1 << 16, 1 << 16)), 1024, "exceeds the device's");
    }
}
