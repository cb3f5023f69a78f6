//! What runs a kernel: the interpreter here, a device in the tests that have one.

use thiserror::Error;

/// A module could not be loaded or launched at all.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// A launch with everything that it needs.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The kernel's name.
    pub kernel: &'a str,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Blocks of a cluster in x, y and z.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// The bytes of each parameter.
    pub params: &'a [Vec<u8>],
}

/// What became of a launch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Launched {
    /// What the kernel printed, if the runner sees that.
    pub printed: Option<String>,
    /// What is wrong with the kernel, if the runner looks for that; a fault among them.
    pub findings: Option<Vec<Found>>,
    /// The kind of what stopped the launch.
    pub fault: Option<String>,
}

/// A finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its kind, as headers name it.
    pub kind: String,
    /// All of it.
    pub text: String,
}

/// One module and the memory of its launches.
pub trait Runner {
    /// Loads a module; the memory of the one before is released.
    ///
    /// # Errors
    /// If it cannot be loaded.
    fn load(&mut self, text: &str) -> Result<(), RunError>;

    /// Memory that was never written, aligned to 256 bytes.
    ///
    /// # Errors
    /// If there is none.
    fn alloc(&mut self, bytes: u64) -> Result<u64, RunError>;

    /// Copies to the device.
    ///
    /// # Errors
    /// If that is not memory.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), RunError>;

    /// Copies from the device, after all launches.
    ///
    /// # Errors
    /// If that is not memory.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), RunError>;

    /// Address and size of a variable of the module.
    ///
    /// # Errors
    /// If there is none of that name.
    fn variable(&mut self, name: &str) -> Result<(u64, u64), RunError>;

    /// Launches and waits.
    ///
    /// # Errors
    /// If it cannot be launched; a kernel that fails is a [`Launched`] with a fault where the runner can go on.
    fn launch(&mut self, request: &Request<'_>) -> Result<Launched, RunError>;
}
