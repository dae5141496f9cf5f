//! Talking to PostgreSQL: sessions with bounds on every step, a small pool, a listener, and [`Api`], which
//! holds all SQL text of the guardian; [`client`] serves the commands of people.

pub mod api;
pub mod board;
mod call;
mod certificate;
pub mod client;
mod connect;
pub mod doctor;
pub mod import;
pub mod listener;
pub mod messages;
pub mod pool;
pub mod session;
mod tls;
mod views;
mod wire;

pub use api::Api;
pub use listener::{ControlSession, Notice};
pub use pool::Pool;
pub use session::Sessions;
pub use views::{Property, RunFilter, STATES};
