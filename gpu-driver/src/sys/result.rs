//! Result codes: every code that the driver API defines through CUDA 13, with its exact name.

use std::fmt;

/// A result code as the driver returns it. Not an enum, because a newer driver may return codes that are not listed.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CUresult(pub i32);

macro_rules! results {
    ($($code:literal $name:ident $description:literal;)*) => {
        impl CUresult {
            $(
                #[doc = $description]
                pub const $name: Self = Self($code);
            )*

            /// Every code that is listed, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The exact name of the constant in the CUDA header, or `None` for a code that is not listed.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(concat!("CUDA_", stringify!($name))),)*
                    _ => None,
                }
            }

            /// What the code means, in a sentence without a full stop, or `None` for a code that is not listed.
            pub fn description(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($description),)*
                    _ => None,
                }
            }
        }
    };
}

results! {
    0 SUCCESS "the call succeeded";
    1 ERROR_INVALID_VALUE "an argument is outside the range that the call accepts";
    2 ERROR_OUT_OF_MEMORY "there is not enough memory, on the device or for the driver's own structures";
    3 ERROR_NOT_INITIALIZED "the driver was not initialised by cuInit, or its initialisation failed";
    4 ERROR_DEINITIALIZED "the driver is shutting down with the process";
    5 ERROR_PROFILER_DISABLED "the profiler is not available, usually because another tool is attached";
    6 ERROR_PROFILER_NOT_INITIALIZED "profiling was switched without initialising the profiler (no longer returned)";
    7 ERROR_PROFILER_ALREADY_STARTED "profiling was already on (no longer returned)";
    8 ERROR_PROFILER_ALREADY_STOPPED "profiling was already off (no longer returned)";
    34 ERROR_STUB_LIBRARY "the library is a link-time stub, not a driver; the real one is not on the search path";
    36 ERROR_CALL_REQUIRES_NEWER_DRIVER "the installed driver is too old for this call";
    46 ERROR_DEVICE_UNAVAILABLE "the device is in use or in a compute mode that does not admit this process";
    47 ERROR_MULTICAST_RESOURCE_FULL "no multicast resources are left for the object";
    100 ERROR_NO_DEVICE "the driver sees no CUDA device";
    101 ERROR_INVALID_DEVICE "there is no device with this number, or the operation is not valid on it";
    102 ERROR_DEVICE_NOT_LICENSED "the device lacks a licence for compute work";
    200 ERROR_INVALID_IMAGE "the module image is damaged or of no known kind";
    201 ERROR_INVALID_CONTEXT "no context is current on this thread, or the one that is has been destroyed";
    202 ERROR_CONTEXT_ALREADY_CURRENT "the context was already current (no longer returned)";
    205 ERROR_MAP_FAILED "a resource could not be mapped or registered";
    206 ERROR_UNMAP_FAILED "a resource could not be unmapped or unregistered";
    207 ERROR_ARRAY_IS_MAPPED "the array is mapped and cannot be destroyed";
    208 ERROR_ALREADY_MAPPED "the resource is mapped already";
    209 ERROR_NO_BINARY_FOR_GPU "the module holds no code that can run on this device";
    210 ERROR_ALREADY_ACQUIRED "the resource has been acquired already";
    211 ERROR_NOT_MAPPED "the resource is not mapped";
    212 ERROR_NOT_MAPPED_AS_ARRAY "the resource is mapped, but not as an array";
    213 ERROR_NOT_MAPPED_AS_POINTER "the resource is mapped, but not as a pointer";
    214 ERROR_ECC_UNCORRECTABLE "device memory had an error that ECC could not correct";
    215 ERROR_UNSUPPORTED_LIMIT "the device has no such limit";
    216 ERROR_CONTEXT_ALREADY_IN_USE "the context is current on another thread and admits only one";
    217 ERROR_PEER_ACCESS_UNSUPPORTED "these two devices cannot access each other's memory";
    218 ERROR_INVALID_PTX "the PTX did not compile";
    219 ERROR_INVALID_GRAPHICS_CONTEXT "the graphics context is not usable";
    220 ERROR_NVLINK_UNCORRECTABLE "NVLink had an error that could not be corrected";
    221 ERROR_JIT_COMPILER_NOT_FOUND "the driver's PTX compiler library is missing";
    222 ERROR_UNSUPPORTED_PTX_VERSION "the PTX version is newer than the driver's compiler";
    223 ERROR_JIT_COMPILATION_DISABLED "compilation of PTX is switched off on this system";
    224 ERROR_UNSUPPORTED_EXEC_AFFINITY "the device does not support this kind of execution affinity";
    225 ERROR_UNSUPPORTED_DEVSIDE_SYNC "the code synchronises from the device, which is no longer supported";
    226 ERROR_CONTAINED "a device exception was contained by the hardware; the process cannot go on using the device";
    227 ERROR_INSUFFICIENT_LOADER_VERSION "the loader is too old for the fat binary";
    300 ERROR_INVALID_SOURCE "the source of the kernel is not valid";
    301 ERROR_FILE_NOT_FOUND "a file was not found";
    302 ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND "a shared library that the driver loads lacks a symbol";
    303 ERROR_SHARED_OBJECT_INIT_FAILED "a shared library that the driver loads failed to initialise";
    304 ERROR_OPERATING_SYSTEM "a call to the operating system failed";
    400 ERROR_INVALID_HANDLE "a handle does not name a live object";
    401 ERROR_ILLEGAL_STATE "an object is not in a state that permits the operation";
    402 ERROR_LOSSY_QUERY "the answer holds information that this version of the query cannot express";
    500 ERROR_NOT_FOUND "no object of that name exists";
    600 ERROR_NOT_READY "work queued earlier has not finished yet (a state, not a failure)";
    700 ERROR_ILLEGAL_ADDRESS "a kernel accessed memory that is not mapped";
    701 ERROR_LAUNCH_OUT_OF_RESOURCES "the launch needs more registers, threads or argument space than the device has";
    702 ERROR_LAUNCH_TIMEOUT "a kernel ran longer than the system's time limit";
    703 ERROR_LAUNCH_INCOMPATIBLE_TEXTURING "the launch uses an incompatible texturing mode";
    704 ERROR_PEER_ACCESS_ALREADY_ENABLED "peer access is enabled already";
    705 ERROR_PEER_ACCESS_NOT_ENABLED "peer access is not enabled";
    708 ERROR_PRIMARY_CONTEXT_ACTIVE "the primary context is active, and the call must precede its creation";
    709 ERROR_CONTEXT_IS_DESTROYED "the context has been destroyed, or the primary context does not exist yet";
    710 ERROR_ASSERT "an assertion in a kernel failed";
    711 ERROR_TOO_MANY_PEERS "the hardware resources for peer access are exhausted";
    712 ERROR_HOST_MEMORY_ALREADY_REGISTERED "the host memory is registered already";
    713 ERROR_HOST_MEMORY_NOT_REGISTERED "the host memory is not registered";
    714 ERROR_HARDWARE_STACK_ERROR "a kernel's stack was corrupted or overflowed";
    715 ERROR_ILLEGAL_INSTRUCTION "a kernel executed an illegal instruction";
    716 ERROR_MISALIGNED_ADDRESS "a kernel accessed an address that is not aligned to the access";
    717 ERROR_INVALID_ADDRESS_SPACE "a kernel used an address of the wrong state space";
    718 ERROR_INVALID_PC "a kernel's program counter left its address space";
    719 ERROR_LAUNCH_FAILED "a kernel died of an exception, often an invalid pointer or shared memory out of bounds";
    720 ERROR_COOPERATIVE_LAUNCH_TOO_LARGE "a cooperative launch has more blocks than can be resident at once";
    721 ERROR_TENSOR_MEMORY_LEAK "a kernel exited without freeing its tensor memory";
    800 ERROR_NOT_PERMITTED "the operation is not permitted";
    801 ERROR_NOT_SUPPORTED "the operation is not supported by this system or device";
    802 ERROR_SYSTEM_NOT_READY "the system is not ready; a required daemon (fabric manager) is not running";
    803 ERROR_SYSTEM_DRIVER_MISMATCH "the kernel module and the user-mode driver have different versions";
    804 ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE "forward compatibility is not supported on this device";
    805 ERROR_MPS_CONNECTION_FAILED "the MPS client could not reach the control daemon or the server";
    806 ERROR_MPS_RPC_FAILURE "a remote call between MPS client and server failed";
    807 ERROR_MPS_SERVER_NOT_READY "the MPS server cannot take clients now; it may be starting or recovering";
    808 ERROR_MPS_MAX_CLIENTS_REACHED "the MPS server has no room for another client";
    809 ERROR_MPS_MAX_CONNECTIONS_REACHED "the MPS server has no device connections left";
    810 ERROR_MPS_CLIENT_TERMINATED "the MPS server terminated this client";
    811 ERROR_CDP_NOT_SUPPORTED "the module uses dynamic parallelism, which is not supported here";
    812 ERROR_CDP_VERSION_MISMATCH "the module mixes two versions of dynamic parallelism";
    900 ERROR_STREAM_CAPTURE_UNSUPPORTED "the operation cannot be captured";
    901 ERROR_STREAM_CAPTURE_INVALIDATED "the capture was broken by an earlier forbidden call and holds nothing usable";
    902 ERROR_STREAM_CAPTURE_MERGE "the operation would merge two independent captures";
    903 ERROR_STREAM_CAPTURE_UNMATCHED "the stream did not begin this capture";
    904 ERROR_STREAM_CAPTURE_UNJOINED "the capture forked work that was not joined back to its first stream";
    905 ERROR_STREAM_CAPTURE_ISOLATION "the dependency would cross the border of the capture";
    906 ERROR_STREAM_CAPTURE_IMPLICIT "the operation would order the capture implicitly with the legacy default stream";
    907 ERROR_CAPTURED_EVENT "the event was last recorded in a capturing stream and cannot be used this way";
    908 ERROR_STREAM_CAPTURE_WRONG_THREAD "a thread-local capture was ended on another thread";
    909 ERROR_TIMEOUT "the wait ran out of time";
    910 ERROR_GRAPH_EXEC_UPDATE_FAILURE "the graph differs from the instantiated one in a way that an update cannot express";
    911 ERROR_EXTERNAL_DEVICE "an error on another device's side; the process cannot go on using this one";
    912 ERROR_INVALID_CLUSTER_SIZE "the cluster is misconfigured or larger than the device can place";
    913 ERROR_FUNCTION_NOT_LOADED "the function is not loaded, and the call needs it to be";
    914 ERROR_INVALID_RESOURCE_TYPE "a resource is of a type that the operation does not accept";
    915 ERROR_INVALID_RESOURCE_CONFIGURATION "the resources are too few or do not fit the operation";
    916 ERROR_KEY_ROTATION "an encryption key of the device is being renewed";
    917 ERROR_STREAM_DETACHED "the stream's context is no longer attached to it";
    918 ERROR_GRAPH_RECAPTURE_FAILURE "a graph could not be captured again into the same structure";
    919 ERROR_FABRIC_NOT_READY "the fabric that connects the devices is not ready";
    999 ERROR_UNKNOWN "the driver reports an internal error without a cause";
}

impl CUresult {
    /// Whether this is [`CUresult::SUCCESS`].
    pub fn is_success(self) -> bool {
        self == Self::SUCCESS
    }

    /// Whether the context, and in most cases the process, cannot be used after this code: every later call will
    /// return it again.
    pub fn is_sticky(self) -> bool {
        matches!(
            self,
            Self::ERROR_ECC_UNCORRECTABLE
                | Self::ERROR_NVLINK_UNCORRECTABLE
                | Self::ERROR_CONTAINED
                | Self::ERROR_ILLEGAL_ADDRESS
                | Self::ERROR_LAUNCH_TIMEOUT
                | Self::ERROR_CONTEXT_IS_DESTROYED
                | Self::ERROR_ASSERT
                | Self::ERROR_HARDWARE_STACK_ERROR
                | Self::ERROR_ILLEGAL_INSTRUCTION
                | Self::ERROR_MISALIGNED_ADDRESS
                | Self::ERROR_INVALID_ADDRESS_SPACE
                | Self::ERROR_INVALID_PC
                | Self::ERROR_LAUNCH_FAILED
                | Self::ERROR_TENSOR_MEMORY_LEAK
                | Self::ERROR_MPS_CLIENT_TERMINATED
                | Self::ERROR_EXTERNAL_DEVICE
        )
    }
}

impl fmt::Debug for CUresult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "CUresult({})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CUresult;

    #[test]
    fn capture_errors_have_their_own_names() {
        let names: Vec<_> = (900..=908).map(|c| CUresult(c).name()).collect();
        assert!(names.iter().all(Option::is_some), "{names:?}");
        assert_eq!(CUresult(901).name(), Some("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"));
        assert_eq!(CUresult(910).name(), Some("CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE"));
        assert_eq!(CUresult(918).name(), Some("CUDA_ERROR_GRAPH_RECAPTURE_FAILURE"));
    }

    #[test]
    fn codes_are_ascending_and_described() {
        assert!(CUresult::ALL.windows(2).all(|w| w[0] < w[1]));
        for code in CUresult::ALL {
            let (name, text) = (code.name().unwrap_or(""), code.description().unwrap_or(""));
            assert!(name.starts_with("CUDA_"), "{code:?}");
            assert!(!text.is_empty() && !text.ends_with('.'), "{code:?}: {text}");
        }
        assert_eq!(CUresult::ALL.len(), 106);
    }

    #[test]
    fn only_device_faults_are_sticky() {
        assert!(CUresult::ERROR_ILLEGAL_ADDRESS.is_sticky());
        assert!(CUresult::ERROR_LAUNCH_FAILED.is_sticky());
        for benign in [1, 2, 100, 218, 500, 600, 701, 901, 910] {
            assert!(!CUresult(benign).is_sticky(), "{benign}");
        }
    }

    #[test]
    fn unlisted_codes_have_no_invented_name() {
        assert_eq!(CUresult(12_345).name(), None);
        assert_eq!(format!("{:?}", CUresult(12_345)), "CUresult(12345)");
    }
}
