//! The embedded default: a private PostgreSQL with everything running on it.
//!
//! [`house::House`] starts and stops the whole: a [`cluster::Cluster`], the schema in a database of it, and a
//! guardian for each host, which starts its own keeper. [`demo`] shows the house at work.

pub mod account;
pub mod binaries;
pub mod cluster;
mod daemon;
pub mod demo;
pub mod house;
mod screen;
