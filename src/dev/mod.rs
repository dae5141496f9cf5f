//! The embedded default: a private PostgreSQL with everything running on it.

pub mod account;
pub mod binaries;
pub mod cluster;
