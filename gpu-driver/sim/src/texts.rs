//! Names and descriptions of result codes as C strings with static lifetime.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::OnceLock;

use gpu_driver::sys::CUresult;

type Texts = BTreeMap<i32, (CString, CString)>;

fn all() -> &'static Texts {
    static TEXTS: OnceLock<Texts> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let c_string = |text: Option<&str>| CString::new(text.unwrap_or_default()).unwrap_or_default();
        CUresult::ALL
            .iter()
            .map(|code| (code.0, (c_string(code.name()), c_string(code.description()))))
            .collect()
    })
}

/// The name of a code.
pub(crate) fn name(code: CUresult) -> Option<&'static CStr> {
    all().get(&code.0).map(|(name, _)| name.as_c_str())
}

/// The description of a code.
pub(crate) fn description(code: CUresult) -> Option<&'static CStr> {
    all().get(&code.0).map(|(_, text)| text.as_c_str())
}
