//! The keeper: the small process that is the parent of the jobs and outlives the guardian.
//!
//! One thread, epoll, no tokio, no database. The guardian reaches it through [`KeeperClient`] over a Unix
//! socket in the [`StateDirectory`] and speaks [`protocol`]. Inside, `state` decides without any
//! input or output, `shell` is the loop around it, `children` are the processes, and `store` keeps the
//! results that are not delivered yet.

mod accounts;
mod alarm;
mod cgroup;
mod children;
pub mod client;
pub mod clock;
mod daemon;
pub mod directory;
mod env;
pub(crate) mod footprint;
mod limits;
mod orphans;
mod output;
mod peers;
mod policy;
mod poll;
mod processes;
mod program;
pub mod protocol;
mod result_file;
mod shell;
mod spawn;
mod state;
mod store;
mod sweep;
mod sys;

pub use cgroup::Place;
pub use client::{Found, KeeperClient, KeeperProcess};
pub use daemon::{Options, run};
pub use directory::StateDirectory;
pub use program::{hide, program};
pub use sweep::sweep;
