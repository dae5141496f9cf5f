//! The guardian as a black box: the real binary, its keeper, and a real database.

mod control;
mod edges;
mod faults;
mod footprint;
mod health_faults;
pub(crate) mod host;
mod life;
mod monitor;
mod network_faults;
mod restored;
mod server_faults;
mod silent_faults;
mod upgrade_faults;
mod users;
