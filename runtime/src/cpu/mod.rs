//! The CPU engine: quantised weights used in place from the memory map, rayon over rows.
