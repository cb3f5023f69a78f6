//! Libraries, which belong to no context, and linking, through the C library in a process of its own.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;

use gpu_driver::sys::*;

use crate::c_api::{Library, call, ok, refused, started};
use crate::library::{in_process, installed, is_child};
use crate::support::KERNELS;

type Handle = *mut c_void;
type Keys = *mut c_uint;
type Values = *mut *mut c_void;

fn load(l: &Library, text: &str) -> (CUresult, Handle) {
    let (text, mut library) = (CString::new(text).unwrap(), null_mut());
    let code = call!(l, "cuLibraryLoadData"(
        &mut library => *mut Handle, text.as_ptr().cast() => *const c_void, null_mut() => Keys, null_mut() => Values,
        0 => c_uint, null_mut() => Keys, null_mut() => Values, 0 => c_uint,
    ));
    (code, library)
}

fn kernel(l: &Library, library: Handle, name: &CStr) -> CUkernel {
    let mut kernel = CUkernel::NULL;
    ok!(l, "cuLibraryGetKernel"(&mut kernel => *mut CUkernel, library => Handle, name.as_ptr() => *const c_char));
    kernel
}

/// Launches a kernel of a block of four on four words of 1, and gives them.
fn run(l: &Library, function: CUfunction, shared: c_uint) -> (CUresult, [u32; 4]) {
    let (mut data, mut words) = (0u64, [0u32; 4]);
    ok!(l, "cuMemAlloc_v2"(&mut data => *mut u64, 16 => usize));
    ok!(l, "cuMemsetD32_v2"(data => u64, 1 => c_uint, 4 => usize));
    let mut params = [(&raw mut data).cast::<c_void>()];
    let code = call!(l, "cuLaunchKernel"(
        function => CUfunction, 1 => c_uint, 1 => c_uint, 1 => c_uint, 4 => c_uint, 1 => c_uint, 1 => c_uint,
        shared => c_uint, CUstream::NULL => CUstream, params.as_mut_ptr() => Values, null_mut() => Values,
    ));
    ok!(l, "cuMemcpyDtoH_v2"(words.as_mut_ptr().cast() => *mut c_void, data => u64, 16 => usize));
    ok!(l, "cuMemFree_v2"(data => u64));
    (code, words)
}

#[test]
fn a_library_is_there_in_every_context() {
    if !is_child() {
        let (_folder, path) = installed();
        let test = "libraries::a_library_is_there_in_every_context";
        let told = in_process(test, &[("WARPSMITH_SIM_REPORT", "1")], &path);
        assert!(!told.contains("leak: module"), "{told}");
        return;
    }
    let (mut device, mut context) = (0, CUcontext::NULL);
    let l = started(&mut device, &mut context);
    let text = KERNELS.replacen("sm_75", "sm_52", 1);
    assert_eq!(load(&l, "no PTX").0, CUresult::ERROR_INVALID_IMAGE);
    ok!(l, "cuCtxSetCurrent"(CUcontext::NULL => CUcontext));
    let (code, library) = load(&l, &text);
    assert_eq!(code, CUresult::SUCCESS, "no context is needed");
    let triple = kernel(&l, library, c"triple");
    let mut none = CUkernel::NULL;
    refused!(ERROR_NOT_FOUND, l, "cuLibraryGetKernel"(&mut none => *mut CUkernel, library => Handle, c"no".as_ptr() => *const c_char));
    let (mut name, mut n) = (std::ptr::null(), 0);
    ok!(l, "cuKernelGetName"(&mut name => *mut *const c_char, triple => CUkernel));
    // SAFETY: the driver has told of a name, which lives as long as the library.
    assert_eq!(unsafe { CStr::from_ptr(name) }, c"triple");
    ok!(l, "cuLibraryGetKernelCount"(&mut n => *mut c_uint, library => Handle));
    let mut all = vec![CUkernel::NULL; n as usize];
    ok!(l, "cuLibraryEnumerateKernels"(all.as_mut_ptr() => *mut CUkernel, n => c_uint, library => Handle));
    assert!(all.contains(&triple));
    // More shared memory, for each context of the device.
    let attribute = |value: c_int| call!(l, "cuKernelSetAttribute"(8 => c_int, value => c_int, triple => CUkernel, device => CUdevice));
    assert_eq!((attribute(100_000), attribute(1 << 30)), (CUresult::SUCCESS, CUresult::ERROR_INVALID_VALUE));
    let mut globals = Vec::new();
    for own in [false, true] {
        let mut made = context;
        if own {
            ok!(l, "cuCtxCreate_v2"(&mut made => *mut CUcontext, 0 => c_uint, device => CUdevice));
        }
        ok!(l, "cuCtxSetCurrent"(made => CUcontext));
        // A kernel stands for the function of the current context.
        assert_eq!(run(&l, CUfunction(triple.0), 100_000), (CUresult::SUCCESS, [3; 4]));
        let (mut function, mut value) = (CUfunction::NULL, 0);
        ok!(l, "cuKernelGetFunction"(&mut function => *mut CUfunction, triple => CUkernel));
        assert_eq!(run(&l, function, 0), (CUresult::SUCCESS, [3; 4]));
        for asked in [function, CUfunction(triple.0)] {
            ok!(l, "cuFuncGetAttribute"(&mut value => *mut c_int, 8 => c_int, asked => CUfunction));
            assert_eq!(value, 100_000);
        }
        let (mut at, mut bytes, mut module) = (0u64, 0usize, CUmodule::NULL);
        ok!(l, "cuLibraryGetGlobal"(&mut at => *mut u64, &mut bytes => *mut usize, library => Handle, c"counter".as_ptr() => *const c_char));
        assert_eq!(bytes, 4);
        globals.push(at);
        ok!(l, "cuLibraryGetModule"(&mut module => *mut CUmodule, library => Handle));
        refused!(ERROR_INVALID_HANDLE, l, "cuModuleUnload"(module => CUmodule));
    }
    assert_ne!(globals[0], globals[1], "each context has its own variables");
    let mut value = 0;
    ok!(l, "cuKernelGetAttribute"(&mut value => *mut c_int, 5 => c_int, triple => CUkernel, device => CUdevice));
    assert_eq!(value, 52);
    ok!(l, "cuLibraryUnload"(library => Handle));
    assert_eq!(run(&l, CUfunction(triple.0), 0).0, CUresult::ERROR_INVALID_HANDLE);
    refused!(ERROR_INVALID_HANDLE, l, "cuLibraryUnload"(library => Handle));
    ok!(l, "cuDevicePrimaryCtxReset_v2"(device => CUdevice));
}

/// `calls(data)`: puts what another text makes of each word in its place.
const CALLS: &str = "
.version 7.0
.target sm_70, texmode_independent
.address_size 64
.extern .func (.param .b32 result) changed (.param .b32 word);
.visible .entry calls(.param .u64 p)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [p];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.u32 %r2, [%rd4];
    {
    .param .b32 word;
    .param .b32 result;
    st.param.b32 [word], %r2;
    call.uni (result), changed, (word);
    ld.param.b32 %r3, [result];
    }
    st.global.u32 [%rd4], %r3;
    ret;
}
";

const DEFINES: &str = "
.version 8.0
.target sm_80 .address_size 64
.visible .func (.param .b32 result) changed (.param .b32 word)
{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [word];
    add.u32 %r2, %r1, 5;
    st.param.b32 [result], %r2;
    ret;
}
";

#[test]
fn a_text_is_linked_to_an_image() {
    if !is_child() {
        let (_folder, path) = installed();
        in_process("libraries::a_text_is_linked_to_an_image", &[], &path);
        return;
    }
    let (mut device, mut context) = (0, CUcontext::NULL);
    let l = started(&mut device, &mut context);
    let mut log = [0 as c_char; 256];
    // CU_JIT_ERROR_LOG_BUFFER and its size.
    let mut keys: [c_uint; 2] = [5, 6];
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast::<c_void>(), null_mut()];
    let mut begin = |texts: &[&str]| {
        let mut link = null_mut();
        // The last link has written how much its log took.
        values[1] = std::ptr::without_provenance_mut(256);
        ok!(l, "cuLinkCreate_v2"(2 => c_uint, keys.as_mut_ptr() => Keys, values.as_mut_ptr() => Values, &mut link => *mut Handle));
        for text in texts {
            ok!(l, "cuLinkAddData_v2"(
                link => Handle, 1 => c_int, text.as_ptr().cast_mut().cast() => *mut c_void, text.len() => usize,
                c"text".as_ptr() => *const c_char, 0 => c_uint, null_mut() => Keys, null_mut() => Values,
            ));
        }
        link
    };
    let (mut image, mut bytes) = (null_mut(), 0);
    let link = begin(&[KERNELS]);
    ok!(l, "cuLinkComplete"(link => Handle, &mut image => *mut Handle, &mut bytes => *mut usize));
    let (mut module, mut function) = (CUmodule::NULL, CUfunction::NULL);
    ok!(l, "cuModuleLoadData"(&mut module => *mut CUmodule, image => *const c_void));
    // SAFETY: the driver says that the image has so many bytes, and it lives as long as the link.
    let copied = unsafe { std::slice::from_raw_parts(image.cast::<u8>(), bytes) }.to_vec();
    ok!(l, "cuLinkDestroy"(link => Handle));
    refused!(ERROR_INVALID_HANDLE, l, "cuLinkDestroy"(link => Handle));
    ok!(l, "cuModuleLoadData"(&mut module => *mut CUmodule, copied.as_ptr().cast() => *const c_void));
    ok!(l, "cuModuleGetFunction"(&mut function => *mut CUfunction, module => CUmodule, c"triple".as_ptr() => *const c_char));
    assert_eq!(run(&l, function, 0), (CUresult::SUCCESS, [3; 4]));
    // What one text declares another defines, whatever their order.
    for texts in [[CALLS, DEFINES], [DEFINES, CALLS]] {
        let link = begin(&texts);
        ok!(l, "cuLinkComplete"(link => Handle, &mut image => *mut Handle, &mut bytes => *mut usize));
        ok!(l, "cuModuleLoadData"(&mut module => *mut CUmodule, image => *const c_void));
        ok!(l, "cuModuleGetFunction"(&mut function => *mut CUfunction, module => CUmodule, c"calls".as_ptr() => *const c_char));
        assert_eq!(run(&l, function, 0), (CUresult::SUCCESS, [6; 4]));
        ok!(l, "cuLinkDestroy"(link => Handle));
    }
    // What is wrong comes to light at the end: text that is none, names that are there twice or never.
    let bad = KERNELS.replacen("mul.lo", "mul.low", 1);
    for (texts, code) in [
        (&[bad.as_str()][..], CUresult::ERROR_INVALID_PTX),
        (&[KERNELS, KERNELS], CUresult::ERROR_INVALID_PTX),
        (&[KERNELS, "no PTX"], CUresult::ERROR_INVALID_IMAGE),
        (&[CALLS], CUresult::ERROR_INVALID_PTX),
        (&[], CUresult::ERROR_INVALID_VALUE),
    ] {
        let link = begin(texts);
        assert_eq!(
            call!(l, "cuLinkComplete"(link => Handle, &mut image => *mut Handle, &mut bytes => *mut usize)),
            code
        );
    }
    // SAFETY: the log ends with a NUL.
    let told = unsafe { CStr::from_ptr(log.as_ptr()) }.to_string_lossy();
    assert!(told.contains("error   :"), "{told}");
    let (link, code) = (begin(&[]), b"\x7fELF and so on");
    for (kind, expected) in [
        (0, CUresult::ERROR_NO_BINARY_FOR_GPU),
        (3, CUresult::ERROR_NOT_SUPPORTED),
        (9, CUresult::ERROR_INVALID_VALUE),
    ] {
        let added = call!(l, "cuLinkAddData_v2"(
            link => Handle, kind => c_int, code.as_ptr().cast_mut().cast() => *mut c_void, code.len() => usize,
            c"code".as_ptr() => *const c_char, 0 => c_uint, null_mut() => Keys, null_mut() => Values,
        ));
        assert_eq!(added, expected);
    }
}
