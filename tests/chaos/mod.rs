//! A small fleet at work while everything about it breaks, and a checker that balances the books afterwards.
//!
//! `run_chaos` drives it; `checker` is pure: it reads the history, what each process wrote about itself, what was
//! broken and what was asked, and says what does not fit.

mod changes;
mod checker;
mod checks;
mod doctored;
mod doctored_changes;
mod driver;
mod fleet_jobs;
mod machine;
mod records;
mod run_chaos;
mod servers;
mod stalls;
mod standing;
mod witness;
