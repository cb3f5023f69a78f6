#![allow(missing_docs, dead_code)]
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metrics;
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct MemoryMetrics;
