//! The single integration binary: one module a behaviour.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

mod claim;
mod cli;
mod cli_errors;
mod config;
mod dev;
mod dev_cluster;
mod dev_house;
mod finish;
mod house;
mod keeper;
mod migrate;
mod migrate_install;
mod overlap;
mod plan;
