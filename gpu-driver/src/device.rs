//! A device and what it can do.

use crate::attribute::DeviceAttribute;
use crate::context::Context;
use crate::driver::Driver;
use crate::error::{DriverError, count};
use crate::launch::Dim3;
use crate::sys::table::call;
use crate::sys::{CUdevice, CUresult, CUuuid};
use std::ffi::{CStr, c_char, c_int};
use std::fmt;

/// A CUDA device. Holding one costs nothing on the device; [`Device::context`] does.
#[derive(Clone)]
pub struct Device {
    driver: Driver,
    ordinal: u32,
    handle: CUdevice,
}

impl Device {
    pub(crate) fn new(driver: &Driver, ordinal: u32) -> Result<Self, DriverError> {
        driver.init()?;
        let count = driver.device_count()?;
        let Some(number) = c_int::try_from(ordinal).ok().filter(|_| ordinal < count) else {
            return Err(if count == 0 {
                DriverError::NoDevice
            } else {
                DriverError::NoSuchDevice { ordinal, count }
            });
        };
        let mut handle: CUdevice = 0;
        // SAFETY: the handle goes to a local.
        unsafe { call!(driver.table(), device_get(&mut handle, number)) }?;
        Ok(Self { driver: driver.clone(), ordinal, handle })
    }

    /// The driver that it belongs to.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Its number among the devices of this process.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// The driver's handle.
    pub fn handle(&self) -> CUdevice {
        self.handle
    }

    /// Its primary context: the one already in use through this [`Driver`], or a newly retained one.
    ///
    /// # Errors
    ///
    /// The driver's failure to create the context or to answer for the device's limits.
    pub fn context(&self) -> Result<Context, DriverError> {
        Context::of(self)
    }

    /// Its name, for example `NVIDIA H200`.
    ///
    /// # Errors
    ///
    /// The driver's failure.
    pub fn name(&self) -> Result<String, DriverError> {
        let mut text = [0 as c_char; 256];
        // SAFETY: the driver writes at most 256 bytes, NUL included, into the array.
        unsafe { call!(self.driver.table(), device_get_name(text.as_mut_ptr(), 256, self.handle)) }?;
        Ok(string_of(&text))
    }

    /// Its PCI address, `domain:bus:device.function`.
    ///
    /// # Errors
    ///
    /// The driver's failure.
    pub fn pci_bus_id(&self) -> Result<String, DriverError> {
        let mut text = [0 as c_char; 32];
        // SAFETY: the driver writes at most 32 bytes, NUL included, into the array.
        unsafe { call!(self.driver.table(), device_get_pci_bus_id(text.as_mut_ptr(), 32, self.handle)) }?;
        Ok(string_of(&text))
    }

    /// Its universally unique identifier.
    ///
    /// # Errors
    ///
    /// The driver's failure; [`DriverError::SymbolMissing`] before CUDA 11.4.
    pub fn uuid(&self) -> Result<Uuid, DriverError> {
        let mut uuid = CUuuid::default();
        // SAFETY: the identifier goes to a local.
        unsafe { call!(self.driver.table(), device_get_uuid(&mut uuid, self.handle)) }?;
        Ok(Uuid(uuid.bytes))
    }

    /// Its memory in bytes.
    ///
    /// # Errors
    ///
    /// The driver's failure.
    pub fn total_memory(&self) -> Result<u64, DriverError> {
        let mut bytes = 0usize;
        // SAFETY: the size goes to a local.
        unsafe { call!(self.driver.table(), device_total_mem(&mut bytes, self.handle)) }?;
        Ok(bytes as u64)
    }

    /// One of its attributes.
    ///
    /// # Errors
    ///
    /// The driver's failure; `CUDA_ERROR_INVALID_VALUE` for an attribute that an old driver does not know.
    pub fn attribute(&self, attribute: DeviceAttribute) -> Result<i32, DriverError> {
        let mut value: c_int = 0;
        // SAFETY: the value goes to a local.
        unsafe {
            call!(self.driver.table(), device_get_attribute(&mut value, attribute as c_int, self.handle))
        }?;
        Ok(value)
    }

    /// An attribute that an old driver may not know, which then means that the feature is absent: zero.
    fn attribute_or_absent(&self, attribute: DeviceAttribute) -> Result<i32, DriverError> {
        match self.attribute(attribute) {
            Err(e) if e.code() == Some(CUresult::ERROR_INVALID_VALUE) => Ok(0),
            other => other,
        }
    }

    fn count(&self, attribute: DeviceAttribute) -> Result<u32, DriverError> {
        count("a device attribute", self.attribute(attribute)?)
    }

    /// Its compute capability.
    ///
    /// # Errors
    ///
    /// The driver's failure.
    pub fn compute_capability(&self) -> Result<ComputeCapability, DriverError> {
        Ok(ComputeCapability {
            major: self.count(DeviceAttribute::ComputeCapabilityMajor)?,
            minor: self.count(DeviceAttribute::ComputeCapabilityMinor)?,
        })
    }

    /// The limits against which launches are checked.
    ///
    /// # Errors
    ///
    /// The driver's failure.
    pub fn limits(&self) -> Result<DeviceLimits, DriverError> {
        use DeviceAttribute as A;
        let absent_is_zero = |a| count("a device attribute", self.attribute_or_absent(a)?);
        Ok(DeviceLimits {
            compute_capability: self.compute_capability()?,
            multiprocessors: self.count(A::MultiprocessorCount)?,
            warp_size: self.count(A::WarpSize)?,
            max_threads_per_block: self.count(A::MaxThreadsPerBlock)?,
            max_block: Dim3 {
                x: self.count(A::MaxBlockDimX)?,
                y: self.count(A::MaxBlockDimY)?,
                z: self.count(A::MaxBlockDimZ)?,
            },
            max_grid: Dim3 {
                x: self.count(A::MaxGridDimX)?,
                y: self.count(A::MaxGridDimY)?,
                z: self.count(A::MaxGridDimZ)?,
            },
            shared_per_block: self.count(A::MaxSharedMemoryPerBlock)?,
            shared_per_block_optin: absent_is_zero(A::MaxSharedMemoryPerBlockOptin)?,
            shared_per_multiprocessor: self.count(A::MaxSharedMemoryPerMultiprocessor)?,
            cluster_launch: absent_is_zero(A::ClusterLaunch)? != 0,
        })
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.ordinal)
    }
}

fn string_of(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().map(|&c| c.cast_unsigned()).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map_or_else(|_| String::from_utf8_lossy(&bytes).into_owned(), |s| s.to_string_lossy().into_owned())
}

/// Compute capability of a device; `sm_90` is 9.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComputeCapability {
    /// Major number: the architecture.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl ComputeCapability {
    /// The number in `sm_NN`: 90 for 9.0.
    pub fn sm(self) -> u32 {
        self.major * 10 + self.minor
    }
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A device's universally unique identifier, displayed as `nvidia-smi -L` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GPU")?;
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 0 | 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Limits of a device, read once per context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Compute capability.
    pub compute_capability: ComputeCapability,
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// Threads per warp.
    pub warp_size: u32,
    /// Most threads per block.
    pub max_threads_per_block: u32,
    /// Most threads per block along each dimension.
    pub max_block: Dim3,
    /// Most blocks per grid along each dimension.
    pub max_grid: Dim3,
    /// Shared memory per block without opting in, bytes.
    pub shared_per_block: u32,
    /// Shared memory per block for kernels that opt in, bytes; zero on a driver that has no such limit.
    pub shared_per_block_optin: u32,
    /// Shared memory per multiprocessor, bytes.
    pub shared_per_multiprocessor: u32,
    /// Whether launches can have clusters.
    pub cluster_launch: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays() {
        assert_eq!(ComputeCapability { major: 9, minor: 0 }.to_string(), "9.0");
        assert_eq!(ComputeCapability { major: 12, minor: 1 }.sm(), 121);
        let uuid = Uuid([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(uuid.to_string(), "GPU-12345678-9abc-def0-0102-030405060708");
    }
}
