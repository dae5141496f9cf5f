//! db.

pub mod client;
