//! Opaque handles. Each is a pointer-sized token that only the driver may interpret.

use std::ffi::{c_int, c_void};

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub *mut c_void);

        impl $name {
            /// The null handle.
            pub const NULL: Self = Self(std::ptr::null_mut());

            /// Whether this is the null handle.
            pub fn is_null(self) -> bool {
                self.0.is_null()
            }
        }

        // SAFETY: the handle is a token that this crate never dereferences; the driver accepts a handle on any thread
        // on which the handle's context is current. Objects that need more (graphs) are locked by their owners.
        unsafe impl Send for $name {}
        // SAFETY: as for Send; a shared token gives no access to what it names except through the driver.
        unsafe impl Sync for $name {}
    )*};
}

handles! {
    /// A device context.
    CUcontext;
    /// A loaded module.
    CUmodule;
    /// A kernel in a module.
    CUfunction;
    /// A context-independent kernel of the library interface. Only ever null here.
    CUkernel;
    /// A stream of work.
    CUstream;
    /// A marker in a stream.
    CUevent;
    /// A graph definition.
    CUgraph;
    /// A node of a graph definition.
    CUgraphNode;
    /// An instantiated graph.
    CUgraphExec;
    /// An array, for copies that this crate does not make. Only ever null here.
    CUarray;
}

/// A device's handle. It is the driver's own number, not necessarily the ordinal.
pub type CUdevice = c_int;

/// An address in device memory.
pub type CUdeviceptr = u64;

/// A condition of a graph. Unlike the others it is a number for kernels, too, which set the condition's value by it.
pub type CUgraphConditionalHandle = u64;
