//! The simulated driver through the safe layer of `gpu-driver`, and its C library.

mod c_api;
mod captures;
mod contexts;
mod devices;
mod faults;
mod graphs;
mod kernels;
mod launches;
mod libraries;
mod library;
mod loops;
mod managed;
mod memory;
mod modules;
mod nodes;
mod order;
mod per_thread;
mod streams;
mod support;
