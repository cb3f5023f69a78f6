//! The end of a step that no host takes part in: the next token becomes the next step's input, and is told.
//!
//! [`definition`] says what sampling is, so that it is the same wherever it is done.
//!
//! | kernel | what |
//! |---|---|
//! | [`Advance`] | tokens, positions and counts of the next step; the tokens into a ring that the host reads |

mod advance;
pub mod definition;

pub use advance::Advance;

use crate::Kernel;
use crate::cases::Case;

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    advance::catalogue()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    advance::cases()
}
