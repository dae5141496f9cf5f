//! What the state machine is told, and what it wants done.

use super::Connection;
use crate::keeper::{
    protocol::{Event, Request, RunKey, RunResult, Start},
    sys::{Exit, Usage},
};

/// What the world tells the keeper.
#[derive(Debug)]
pub(in crate::keeper) enum Input {
    Request(Connection, Request),
    Disconnected(Connection),
    /// A process was made for the run; its program is not executing yet.
    Forked(RunKey, i32),
    /// No process was made.
    NotForked(RunKey, Fault),
    /// The program is executing.
    Executing(RunKey),
    /// The process was made, could not execute the program, and is about to end.
    NotExecuted(RunKey, Fault),
    /// The first process of the run has ended and is not reaped.
    Exited(RunKey, Exit),
    /// Nothing is left of the run but its zombie.
    Swept(RunKey),
    /// Both output pipes are at their end.
    Closed(RunKey),
    /// The first process was reaped and its leavings collected.
    Collected(RunKey, Box<Collected>),
    /// Nothing more is known of the run, though its process may hang on.
    Abandoned(RunKey),
    /// The keeper is asked to stop.
    Stop,
    /// Nothing but time has passed.
    Tick,
}

/// What the keeper wants done.
#[derive(Debug)]
pub(in crate::keeper) enum Effect {
    Send(Connection, Event),
    /// Close the connection; what stands unread in it is dropped.
    Close(Connection),
    Spawn(Box<Start>),
    /// To all processes of the run.
    Kill(RunKey, Force),
    /// Stop all processes of the run.
    Pause(RunKey),
    /// Let them go on.
    Unpause(RunKey),
    /// Say [`Input::Swept`] when nothing is left of the run whose first process has ended; by force when
    /// it is [`Force::Kill`], else what is left was asked already.
    Sweep(RunKey, Force),
    /// The program has not been executed for so long that it never will be: answer [`Input::NotExecuted`].
    GiveUp(RunKey),
    /// Forget a process that cannot be killed, and answer [`Input::Abandoned`].
    Abandon(RunKey),
    /// Reap the first process and answer [`Input::Collected`].
    Collect(RunKey),
    /// Store the result, and offer it to the guardian when one is connected.
    Record(Box<RunResult>),
    /// Offer a stored result.
    Offer(Connection, RunKey),
    /// Offer again what was acknowledged a short time ago.
    OfferRetained(Connection),
    /// The result was acknowledged.
    Forget(RunKey),
}

/// How hard a run is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::keeper) enum Force {
    Term,
    Kill,
}

/// Why no process was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::keeper) enum Fault {
    /// The host is short of something; another time or another host will do.
    Host(String),
    /// The order came too late.
    Late(String),
    /// The job asks for what cannot be.
    Spawn(String),
    /// The job asks for what this host does not do.
    Policy(String),
}

/// What is known of a run once its first process is reaped.
#[derive(Debug, Default)]
pub(in crate::keeper) struct Collected {
    pub(in crate::keeper) stdout: String,
    pub(in crate::keeper) stderr: String,
    pub(in crate::keeper) result: Option<Box<serde_json::value::RawValue>>,
    /// Something that people should know about the outcome.
    pub(in crate::keeper) note: Option<String>,
    pub(in crate::keeper) usage: Usage,
}
