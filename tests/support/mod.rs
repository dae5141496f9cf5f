//! The test harness: a cluster for the test run, a database for each test, time that is set, the real binary.
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_behaviour_as_a_sentence() {
//!     let db = support::db().await;
//!     let client = db.client().await;
//!     set_clock(&client, "2026-01-05 07:00+00").await;
//! }
//! ```

#![allow(dead_code, unused_imports, reason = "each helper is used by some of the test modules")]

mod assertions;
mod binary;
mod clock;
mod cluster;
mod database;
mod disk;
mod limits;
mod play;
mod proxy;
mod server;
mod template;

pub(crate) use assertions::{
    assert_error, assert_sqlstate, comes_true, error_of, told, wait_until, wait_until_still,
};
pub(crate) use binary::{Finished, Spawned, command, command_of, finish, on_terminal, policy, run, spawn};
pub(crate) use clock::{advance_clock, set_clock};
pub(crate) use cluster::{server, server_url};
pub(crate) use database::{TestClient, TestDb, connect, db, empty_db, empty_db_of, reach};
pub(crate) use disk::{Filler, HungDisk, SmallDisk};
pub(crate) use limits::limit;
pub(crate) use play::{Claim, Play, Request, play, sisyphus};
pub(crate) use proxy::{Proxy, Server};
pub(crate) use server::{OwnServer, folder, free_port, program};
