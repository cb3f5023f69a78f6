//! What the sanitizers know: which bytes were written, who accessed what last, and what happens before what.
//!
//! # Order
//! Time is counted per warp, in epochs ([`Clocks`]): a warp's access is a pair of warp and epoch, and each warp knows up
//! to which epoch the accesses of every other warp happened before its next one. Barriers, arrivals and waits at mbarriers,
//! fences with strong accesses, and accesses with an order pass that knowledge on. Two accesses of which one writes
//! and one is weak, to the same bytes, by different warps, conflict unless the later one's warp knows the earlier one's epoch.
//! (FastTrack: Flanagan and Freund, PLDI 2009.)
//!
//! Shared memory remembers, for each word, its last write and the warps that read it since ([`SharedShadow`]), lanes
//! included: between two lanes of a warp only `bar.warp.sync` or a barrier is an order. Threads that store one value by one
//! instruction do not conflict there, as compilers have several warps store what all of them computed. Global memory remembers the last write and
//! four unordered readers of each word ([`GlobalShadow`]), over launches, so that a launch that overtakes another is held to
//! `griddepcontrol.wait`.
//!
//! What is forgotten can hide a conflict; nothing here reports one that is none.

mod clocks;
mod global;
mod init;
mod objects;
mod shared;

pub(super) use clocks::Clocks;
pub(super) use global::{Accessor, GlobalConflict, GlobalShadow, LAST_TAG, LAST_WARP};
pub(super) use init::{InitBits, InitMap};
pub(super) use objects::Objects;
pub(super) use shared::{SharedAccess, SharedConflict, SharedShadow};
