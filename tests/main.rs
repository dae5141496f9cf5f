//! The single integration binary: one module a behaviour.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

mod calendar;
mod calendar_dates;
mod calendar_model;
mod calendar_property;
mod calendar_refresh;
mod catalogue;
mod catalogue_plans;
mod catalogue_snapshot;
mod chaos;
mod claim;
mod cli;
mod cli_apply;
mod cli_doctor;
mod cli_errors;
mod cli_import;
mod cli_jobs;
mod cli_logs;
mod cli_top;
mod config;
mod config_tls;
mod control;
mod control_hosts;
mod control_open;
mod control_pause;
mod dev;
mod dev_cluster;
mod dev_house;
mod downtime;
mod explain;
mod finish;
mod guardian;
mod house;
mod installation;
mod job;
mod job_errors;
mod job_rights;
mod job_suspend;
mod keeper;
mod migrate;
mod migrate_install;
mod model;
mod observe;
mod overlap;
mod plan;
mod race;
mod reference;
mod retention;
mod roles;
mod scheduled_anew;
mod suspend_orders;
mod views;
mod weeks;
