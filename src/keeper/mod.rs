//! The keeper: the small process that is the parent of the jobs and outlives the guardian.
//!
//! One thread, epoll, no tokio, no database. The guardian reaches it over a Unix socket in the state
//! directory and speaks [`protocol`].

pub mod protocol;
