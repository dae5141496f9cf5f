//! commands.
pub mod keeper;
