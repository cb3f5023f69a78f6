//! The driver's functions, by family. Signatures and codes are those that CUDA documents; comments say where a
//! simulated device has to choose.
//!
//! Every function is `unsafe extern "C"`: its pointers must be what CUDA asks for.

pub(crate) mod capture;
pub(crate) mod condition;
pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod device;
pub(crate) mod edges;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod function;
pub(crate) mod graph;
pub(crate) mod launch;
pub(crate) mod library;
pub(crate) mod link;
pub(crate) mod managed;
pub(crate) mod memory;
pub(crate) mod module;
pub(crate) mod nodes;
pub(crate) mod occupancy;
pub(crate) mod params;
pub(crate) mod pool;
pub(crate) mod stream;
pub(crate) mod user_object;
