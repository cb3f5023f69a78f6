//! Failures on demand: the nth call of a function fails with a given code.

use std::fmt;
use std::str::FromStr;

use gpu_driver::sys::CUresult;

use crate::error::{Result, SimError};

/// The name under which a fault counts kernels as they execute, instead of calls.
pub const LAUNCH: &str = "launch";
/// The name under which a fault counts every call.
pub const ANY: &str = "*";

/// A failure on demand. As text `cuMemAlloc:3=CUDA_ERROR_OUT_OF_MEMORY`: the third call of `cuMemAlloc` fails with that
/// code and does nothing else. `:1` may be left out.
///
/// Functions are named with or without a version suffix. Two names are not functions: `*` counts every call, and
/// `launch` counts kernels (graph nodes among them) as they execute; the one that it hits does not run, and its context
/// is lost with the code, as after a fault of the kernel itself.
///
/// A call that releases something releases it and then returns the code, since a program has no other way to get rid of
/// the object. A code that is sticky ([`CUresult::is_sticky`]) stays with the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Function, `*` or `launch`.
    pub call: String,
    /// Which one from now on, from 1.
    pub nth: u64,
    /// What it returns.
    pub code: CUresult,
}

impl Fault {
    /// The `nth` call of `call` from now on, counted from 1, returns `code`.
    pub fn new(call: &str, nth: u64, code: CUresult) -> Self {
        Self { call: base_name(call).to_owned(), nth, code }
    }

    /// Faults separated by commas; an empty text is none.
    ///
    /// # Errors
    ///
    /// [`SimError::Fault`] for the first that is not understood.
    pub fn list(text: &str) -> Result<Vec<Self>> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
    }
}

impl FromStr for Fault {
    type Err = SimError;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (place, code) = text.split_once('=')?;
            let (call, nth) = match place.split_once(':') {
                Some((call, nth)) => (call, nth.trim().parse().ok().filter(|n| *n > 0)?),
                None => (place, 1),
            };
            let call = call.trim();
            let known = call == ANY || call == LAUNCH || call.starts_with("cu");
            let code = code_of(code.trim())?;
            (known && !code.is_success()).then(|| Self::new(call, nth, code))
        };
        parse().ok_or_else(|| SimError::Fault { text: text.to_owned() })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, nth, code } = self;
        match code.name() {
            Some(name) => write!(f, "{call}:{nth}={name}"),
            None => write!(f, "{call}:{nth}={}", code.0),
        }
    }
}

fn code_of(text: &str) -> Option<CUresult> {
    if let Ok(number) = text.parse() {
        return Some(CUresult(number));
    }
    CUresult::ALL.iter().copied().find(|code| {
        code.name().is_some_and(|name| name == text || name.strip_prefix("CUDA_ERROR_") == Some(text))
    })
}

/// The name without a version suffix: what calls are counted under.
pub(crate) fn base_name(symbol: &str) -> &str {
    let trimmed = symbol.trim_end_matches(|c: char| c.is_ascii_digit());
    match trimmed.strip_suffix("_v") {
        Some(base) if trimmed.len() < symbol.len() => base,
        _ => symbol,
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn pending(&self) -> &[Fault] {
        &self.0
    }

    /// Counts one occurrence of `call`. The first fault that it meets is spent.
    pub(crate) fn strike(&mut self, call: &str) -> Option<CUresult> {
        let mut hit = None;
        for fault in &mut self.0 {
            if fault.call == call || fault.call == ANY && call != LAUNCH {
                fault.nth = fault.nth.saturating_sub(1);
                if fault.nth == 0 && hit.is_none() {
                    hit = Some(fault.code);
                }
            }
        }
        if hit.is_some() {
            self.0.retain(|fault| fault.nth > 0);
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_text_and_back() {
        let list =
            Fault::list("cuMemAlloc_v2:3=CUDA_ERROR_OUT_OF_MEMORY, launch=LAUNCH_FAILED,*:9=77").unwrap();
        let shown: Vec<_> = list.iter().map(ToString::to_string).collect();
        let expected =
            ["cuMemAlloc:3=CUDA_ERROR_OUT_OF_MEMORY", "launch:1=CUDA_ERROR_LAUNCH_FAILED", "*:9=77"];
        assert_eq!(shown, expected);
        assert_eq!(Fault::list(" ").unwrap(), []);
        for wrong in ["cuMemAlloc", "cuMemAlloc:0=1", "malloc=1", "cuInit=CUDA_SUCCESS", "cuInit=NO_SUCH"] {
            assert!(matches!(Fault::list(wrong), Err(SimError::Fault { .. })), "{wrong}");
        }
    }

    #[test]
    fn the_nth_call_is_hit_once() {
        let code = CUresult::ERROR_OUT_OF_MEMORY;
        let mut faults = Faults::default();
        faults.add(Fault::new("cuMemAlloc", 2, code));
        faults.add(Fault::new(ANY, 4, code));
        let hits = ["cuMemAlloc", "cuMemFree", "cuMemAlloc", "launch", "cuMemAlloc", "cuInit"]
            .map(|call| faults.strike(call).is_some());
        assert_eq!(hits, [false, false, true, false, true, false]);
        assert!(faults.pending().is_empty());
    }

    #[test]
    fn versions_are_not_part_of_a_name() {
        let names =
            ["cuMemAlloc_v2", "cuMemsetD8_v2", "cuMemsetD8", "cuCtxCreate_v4", "cuMemcpyHtoDAsync_v2"];
        let bases = ["cuMemAlloc", "cuMemsetD8", "cuMemsetD8", "cuCtxCreate", "cuMemcpyHtoDAsync"];
        assert_eq!(names.map(base_name), bases);
    }
}
