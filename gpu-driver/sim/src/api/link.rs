//! Linking of texts to an image. There is no machine code, so an image is a text, too: those that were added, one after
//! the other. Only this driver loads it. Names that are private to a text must not be in another.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use gpu_driver::sys::*;
use ptx_builder::interp::Memory;

use crate::api::module::{Options, compile, file_text};
use crate::call::{Outcome, in_context, name, put, put_if, releasing};
use crate::code::{is_machine_code, joined};
use crate::handle::{CUlinkState, Id};
use crate::objects::Link;
use crate::state::State;

/// `CUjitInputType`: machine code, and text.
const INPUT_CUBIN: c_int = 0;
const INPUT_PTX: c_int = 1;
/// The last one.
const INPUT_NVVM: c_int = 5;

/// The arrays of options of a link, which the program keeps until it is destroyed.
#[derive(Clone, Copy)]
pub(crate) struct LinkOptions {
    n: c_uint,
    keys: usize,
    values: usize,
}

impl LinkOptions {
    /// # Safety
    ///
    /// The program must have kept the arrays.
    unsafe fn get<'a>(self) -> Outcome<Options<'a>> {
        let keys = std::ptr::with_exposed_provenance_mut(self.keys);
        let values = std::ptr::with_exposed_provenance_mut(self.values);
        // SAFETY: the caller's promise.
        unsafe { Options::new(self.n, keys, values) }
    }
}

fn known(state: &State, link: CUlinkState) -> Outcome<Id> {
    let id = state.id_of(link)?;
    if state.links.contains_key(&id) { Ok(id) } else { Err(CUresult::ERROR_INVALID_HANDLE) }
}

pub(crate) unsafe extern "C" fn create(
    n: c_uint,
    keys: *mut c_uint,
    values: *mut *mut c_void,
    link: *mut CUlinkState,
) -> CUresult {
    in_context(name!("cuLinkCreate", "{n}"), |call| {
        let (keys, values) = (keys.expose_provenance(), values.expose_provenance());
        let options = LinkOptions { n, keys, values };
        // SAFETY: the program has just passed the arrays.
        unsafe { options.get() }?;
        if link.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let id = call.new_id()?;
        call.links.insert(id, Link { inputs: Vec::new(), options, image: None });
        put(link, call.handle(id))
    })
}

/// Takes a text. It is compiled when the link is complete.
fn add(state: &mut State, link: CUlinkState, kind: c_int, text: Outcome<String>) -> Outcome {
    let id = known(state, link)?;
    if !(INPUT_CUBIN..=INPUT_NVVM).contains(&kind) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // Objects, archives and intermediate code of other compilers.
    if kind > INPUT_PTX {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    let text = text?;
    match state.links.get_mut(&id) {
        Some(link) if link.image.is_none() => link.inputs.push(text),
        _ => return Err(CUresult::ERROR_INVALID_HANDLE),
    }
    Ok(())
}

// A name is for messages, and options of one input are those of the link.
#[rustfmt::skip]
pub(crate) unsafe extern "C" fn add_data(
    link: CUlinkState, kind: c_int, data: *mut c_void, bytes: usize, _name: *const c_char, _n: c_uint,
    _keys: *mut c_uint, _values: *mut *mut c_void,
) -> CUresult {
    in_context(name!("cuLinkAddData", "{kind}, {bytes}"), |call| {
        if data.is_null() || bytes == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the program says that there are so many bytes.
        let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) };
        let text = if is_machine_code(data.get(..4).unwrap_or_default()) {
            Err(CUresult::ERROR_NO_BINARY_FOR_GPU)
        } else {
            // With its terminator or without.
            let end = data.iter().position(|byte| *byte == 0).unwrap_or(bytes);
            Ok(String::from_utf8_lossy(&data[..end]).into_owned())
        };
        add(&mut call.state, link, kind, text)
    })
}

#[rustfmt::skip]
pub(crate) unsafe extern "C" fn add_file(
    link: CUlinkState, kind: c_int, path: *const c_char, _n: c_uint, _keys: *mut c_uint, _values: *mut *mut c_void,
) -> CUresult {
    in_context(name!("cuLinkAddFile", "{kind}"), |call| {
        // SAFETY: the caller's promise.
        let text = unsafe { file_text(path) };
        add(&mut call.state, link, kind, text)
    })
}

pub(crate) unsafe extern "C" fn complete(
    link: CUlinkState,
    image: *mut *mut c_void,
    bytes: *mut usize,
) -> CUresult {
    in_context(name!("cuLinkComplete"), |call| {
        let id = known(&call.state, link)?;
        let found = call.links.get(&id).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        if image.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let text = match found.inputs.as_slice() {
            [] => return Err(CUresult::ERROR_INVALID_VALUE),
            texts => joined(texts).ok_or(CUresult::ERROR_INVALID_IMAGE)?,
        };
        // SAFETY: the program keeps the arrays until the link is destroyed.
        let mut options = unsafe { found.options.get() }?;
        compile(call.sim, &text, &mut options, &Memory::new())?;
        let linked: Arc<[u8]> = text.bytes().chain([0]).collect();
        put(image, linked.as_ptr().cast_mut().cast())?;
        put_if(bytes, linked.len());
        if let Some(link) = call.links.get_mut(&id) {
            link.image = Some(linked);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn destroy(link: CUlinkState) -> CUresult {
    releasing(name!("cuLinkDestroy"), |call| {
        let id = known(&call.state, link)?;
        call.links.remove(&id);
        Ok(())
    })
}
