//! Sisyphus: a job scheduler whose brain is SQL.
//!
//! The rooms: `sql/` decides, this crate acts. [`guardian`] talks to the database, [`keeper`] owns the
//! jobs' processes, [`commands`] are thin callers of the SQL functions.

pub mod cli;
pub mod commands;
pub mod config;
pub mod db;
pub mod dev;
pub mod error;
pub mod guardian;
pub mod keeper;
pub mod migrate;
pub mod observe;
pub mod sqlstate;
