//! The simulated driver through the safe layer of `gpu-driver`, and its C library.

mod c_api;
mod captures;
mod contexts;
mod faults;
mod graphs;
mod kernels;
mod launches;
mod libraries;
mod library;
mod loops;
mod memory;
mod modules;
mod order;
mod streams;
mod support;
