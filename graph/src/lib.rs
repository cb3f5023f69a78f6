//! Backend-agnostic tensor graph: shape inference, passes, memory planning, executor.
