//! One module a command, or a few that belong together: thin callers of the SQL functions and views.

mod amount;
mod apply;
mod asking;
mod calendar;
pub mod config;
mod control;
mod definition;
pub mod dev;
pub mod doctor;
mod export;
pub mod guardian;
mod hosts;
mod import;
mod job_options;
mod jobs_file;
pub mod keeper;
mod known;
mod logs;
mod look;
pub mod migrate;
pub mod output;
mod row;
mod settle;
mod show;
mod signals;
pub(crate) mod terminal;
mod top;

use apply::ApplyArgs;
use calendar::CalendarArgs;
use control::{
    BackfillArgs, CancelArgs, PauseArgs, RerunArgs, RunArgs, SubmitArgs, TerminateArgs, UnpauseArgs,
};
use definition::{AlterArgs, ResumeArgs, ScheduleArgs, SuspendArgs, UnscheduleArgs};
use export::ExportArgs;
use hosts::{ActivateArgs, DrainArgs, ForgetArgs, HostsArgs, PoolArgs, SlotsArgs};
use import::ImportArgs;
use logs::LogsArgs;
use look::{JobsArgs, NextArgs, RunsArgs};
use show::{ExplainArgs, ShowArgs};
use top::TopArgs;

use crate::{db::client::Session, error::Result};

/// The commands that ask the database for one thing and end.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "a variant's text would replace the long help that stands with its arguments")]
pub enum Ask {
    /// Create or replace a job
    Schedule(ScheduleArgs),
    /// Change a job
    Alter(AlterArgs),
    /// End a job; its history stays
    Unschedule(UnscheduleArgs),
    /// Stop running a job for a while
    Suspend(SuspendArgs),
    /// Run a suspended job again
    Resume(ResumeArgs),
    /// Run a job now
    Run(RunArgs),
    /// Run a command once, without a job
    Submit(SubmitArgs),
    /// Run an ended run again
    Rerun(RerunArgs),
    /// Run a job for occurrences of the past
    Backfill(BackfillArgs),
    /// End runs that have started
    Terminate(TerminateArgs),
    /// Stop the processes of runs for a while
    Pause(PauseArgs),
    /// Let paused runs go on
    Unpause(UnpauseArgs),
    /// Withdraw runs that have not started
    Cancel(CancelArgs),
    /// List jobs
    Jobs(JobsArgs),
    /// List runs
    Runs(RunsArgs),
    /// List what is due next
    Next(NextArgs),
    /// Show all about a job or run
    Show(ShowArgs),
    /// Say why a run has not started, or what became of an occurrence
    Explain(ExplainArgs),
    Logs(LogsArgs),
    Top(TopArgs),
    Apply(ApplyArgs),
    Export(ExportArgs),
    /// Take over the jobs of another scheduler
    Import(ImportArgs),
    /// List hosts
    Hosts(HostsArgs),
    /// List, make and change pools of hosts
    Pool(PoolArgs),
    /// List, make and refresh calendars of days that jobs leave out or keep to
    Calendar(CalendarArgs),
    /// Stop new work on a host
    Drain(DrainArgs),
    /// Give a drained host work again
    Activate(ActivateArgs),
    /// Set how many runs a host takes at once
    Slots(SlotsArgs),
    /// Remove a host that is gone
    Forget(ForgetArgs),
}

impl Ask {
    /// Asks.
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Schedule(args) => definition::schedule(args, session).await,
            Self::Alter(args) => definition::alter(args, session).await,
            Self::Unschedule(args) => definition::unschedule(args, session).await,
            Self::Suspend(args) => definition::suspend(args, session).await,
            Self::Resume(args) => definition::resume(args, session).await,
            Self::Run(args) => control::run(args, session).await,
            Self::Submit(args) => control::submit(args, session).await,
            Self::Backfill(args) => control::backfill(args, session).await,
            Self::Rerun(args) => control::rerun(args, session).await,
            Self::Terminate(args) => control::terminate(args, session).await,
            Self::Pause(args) => control::pause(args, session).await,
            Self::Unpause(args) => control::unpause(args, session).await,
            Self::Cancel(args) => control::cancel(args, session).await,
            Self::Jobs(args) => look::jobs(args, session).await,
            Self::Runs(args) => look::runs(args, session).await,
            Self::Next(args) => look::next(args, session).await,
            Self::Show(args) => show::show(args, session).await,
            Self::Explain(args) => show::explain(args, session).await,
            Self::Logs(args) => logs::logs(args, session).await,
            Self::Top(args) => top::top(args, session).await,
            Self::Apply(args) => apply::apply(args, session).await,
            Self::Export(args) => export::export(args, session).await,
            Self::Import(args) => import::import(args, session).await,
            Self::Hosts(args) => hosts::hosts(args, session).await,
            Self::Pool(args) => hosts::pool(args, session).await,
            Self::Calendar(args) => calendar::calendar(args, session).await,
            Self::Drain(args) => hosts::drain(args, session).await,
            Self::Activate(args) => hosts::activate(args, session).await,
            Self::Slots(args) => hosts::slots(args, session).await,
            Self::Forget(args) => hosts::forget(args, session).await,
        }
    }
}
