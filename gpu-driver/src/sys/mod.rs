//! The driver's C interface: handles, constants, structures and the function table.
//!
//! Nothing here is safe to use by itself; the safe layer is the rest of the crate. The module is public for one
//! purpose: a software driver fills a [`DriverTable`] with its own functions and hands it to
//! [`Driver::from_table`](crate::Driver::from_table).
//!
//! The names of types follow the C header, so that its documentation can be searched for them. Layouts are pinned by
//! tests in [`structs`].

pub mod constants;
pub mod handles;
pub mod result;
pub mod structs;
pub mod table;

pub use constants::*;
pub use handles::*;
pub use result::CUresult;
pub use structs::*;
pub use table::{DriverTable, ENTRIES, Entry};
