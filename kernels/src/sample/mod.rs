//! The end of a step that no host takes part in: the next token becomes the next step's input, and is told.
//!
//! [`definition`] says what sampling is, so that it is the same wherever it is done; [`SamplingParams::choose`] does it on
//! the host. On a device three launches do it, each with a block for every 1024 tokens: the weights need the largest
//! logit, and what takes part needs all the weights. All sums are of integers, so whoever adds first makes no difference.
//!
//! A cut is found by bins: of the weights first, in shared memory and then in global memory, so that only a few bins are
//! left in which it may be. What is in those is listed and cut exactly by the last block of the row, digit by digit of its
//! rank. Usually that is a handful of tokens; if it is all of them, for they are equal, it is slow and right.
//!
//! | kernel | what |
//! |---|---|
//! | [`SampleLargest`] | penalises what came lately; the most likely token |
//! | [`SampleCut`] | where top-k and top-p cut, up to a bin of likelihoods |
//! | [`SampleDraw`] | the exact cut, and the token that is drawn |
//! | [`Advance`] | tokens, positions and counts of the next step; the tokens into a ring that the host reads |
//! | [`LoopCondition`] | whether steps that a graph repeats go on |

mod advance;
mod bins;
mod cases;
mod cut;
pub mod definition;
mod draw;
mod largest;
mod loop_condition;
mod params;
mod row;

pub use advance::Advance;
pub use cut::SampleCut;
pub use draw::SampleDraw;
pub use largest::SampleLargest;
pub use loop_condition::LoopCondition;
pub use params::{Candidate, SamplingParams, largest};

use crate::Kernel;
use crate::cases::Case;

/// The most logits of a row that the kernels sample from.
pub const MAX_VOCABULARY: usize = row::MAX_N;

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    advance::catalogue().into_iter().chain(loop_condition::catalogue()).chain(cases::catalogue()).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    advance::cases().into_iter().chain(loop_condition::cases()).chain(cases::cases()).collect()
}
