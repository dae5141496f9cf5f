//! The single integration binary: one module a behaviour.
