//! One module a command, or a few that belong together: thin callers of the SQL functions and views.

pub mod config;
pub mod dev;
pub mod guardian;
pub mod keeper;
pub mod migrate;
pub mod output;
