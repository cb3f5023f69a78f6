//! The interpreter runs kernels: control flow, exchanges, barriers, memory, calls, and what it says about mistakes.

mod atomics;
mod barriers;
mod copies;
mod every_form;
mod every_op;
mod exchanges;
mod flow;
mod order;
mod results;
mod support;
mod wgmma;
