//! db.

pub mod client;
pub mod doctor;
mod views;
pub use views::RunFilter;
