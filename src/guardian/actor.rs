//! The actor: its state, its loop, and what is looked at after each event.

use nix::sys::signal::Signal;
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval},
};
use uuid::Uuid;

use super::{
    Input, Options,
    away::Away,
    backoff::Backoff,
    clock::Clock,
    hands::HandsHandle,
    health::Health,
    identity::Identity,
    leaving::Leaving,
    link::{Command as LinkCommand, LinkHandle},
    metrics::Counters,
    moment::Boot,
    offering::Offering,
    pace::Pace,
    reporter::ReporterHandle,
    runs::Runs,
    silent::Silent,
    supervisor::Supervisor,
    ticker::TickerHandle,
    timer::Timer,
    told,
};
use crate::{
    config::Connection,
    db::{
        Pool,
        messages::{HeldClaim, Registered},
    },
    error::Result,
    keeper::{
        KeeperProcess,
        protocol::{Database, RunKey},
    },
    observe::event,
};

/// Inputs handled before the state is looked at as a whole.
const GULP: usize = 512;

/// The tasks around the actor.
#[derive(Debug)]
pub(super) struct Handles {
    pub(super) link: LinkHandle,
    pub(super) hands: HandsHandle,
    pub(super) reporter: ReporterHandle,
    pub(super) ticker: TickerHandle,
    pub(super) pool: Pool,
}

/// How this host stands with the database.
#[derive(Debug)]
pub(super) enum Membership {
    /// Not registered.
    None,
    /// Asked for in this session, with what this list of the keeper said.
    Asked(u64),
    /// Registered, also while the database is away.
    Member(Box<Member>),
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) registered: Registered,
    pub(super) pace: Pace,
    /// Requests received since the last claim was sent. When its answer is lost they are told again.
    pub(super) unacknowledged: Vec<i64>,
    /// Due runs that the claim in flight may bring.
    pub(super) offered: usize,
    /// Whether the last claim brought nothing, after a tick of this guardian.
    pub(super) drained: bool,
}

/// How it stands with the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    Away,
    /// Greeted; its list is awaited.
    Greeted(Uuid),
    /// Its runs are in the table.
    Listed(Uuid),
}

#[derive(Debug)]
pub(super) struct Guardian {
    pub(super) options: Options,
    pub(super) identity: Identity,
    pub(super) boot_id: String,
    pub(super) clock: Clock,
    pub(super) handles: Handles,
    pub(super) supervisor: Supervisor,
    pub(super) runs: Runs,
    pub(super) membership: Membership,
    pub(super) keeper: Keeper,
    /// Keepers that stay until their last run has ended.
    pub(super) older_keepers: Vec<Uuid>,
    /// Keepers that are alive and do not answer.
    pub(super) silent: Vec<Silent>,
    /// Counts the keeper's lists.
    pub(super) lists: u64,
    /// Claims acknowledged since a list was asked for, which may stand in it all the same.
    pub(super) let_go: Vec<i64>,
    /// What the server lacks that answers now.
    pub(super) offering: Offering,
    /// Runs in the last list that are not of the installation that this host last served.
    pub(super) foreign: usize,
    /// Those and others, while this host does not know which installation it serves.
    pub(super) unknown: Vec<HeldClaim>,
    /// The session of the link, while it has one.
    pub(super) session: Option<u64>,
    /// The database of that session or the last one.
    pub(super) database: Option<Database>,
    /// What was told of the database while it was out of reach: for claims, and for the rest.
    pub(super) away: Away,
    pub(super) pool_away: Away,
    /// Whether it has ever registered: from then on every trouble with the database may pass.
    pub(super) was_member: bool,
    /// Runs the host may take at once: the option, or what an operator has said.
    pub(super) slots: usize,
    /// An operator wants the host empty.
    pub(super) draining: bool,
    pub(super) ticked: bool,
    pub(super) health: Health,
    pub(super) counters: Counters,
    /// Limits that the keeper cannot hold a run to.
    pub(super) unenforced: Vec<String>,
    /// The last of these that a run was to be held to.
    pub(super) unlimited: Option<String>,
    pub(super) register_at: Boot,
    /// Between registrations or claims that were refused.
    pub(super) refusals: Backoff,
    pub(super) leaving: Option<Leaving>,
    /// The keeper's process.
    pub(super) keeper_process: Option<KeeperProcess>,
    /// When memory may go back next; none when there was nothing to do since it last did.
    pub(super) rest_at: Option<Boot>,
    inputs: Inputs,
}

/// What wakes the guardian up.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) inbox: mpsc::UnboundedReceiver<Input>,
    /// Changes when the settings have been read again.
    pub(super) reload: watch::Receiver<Connection>,
    pub(super) timer: Timer,
}

impl Guardian {
    pub(super) fn new(
        options: Options,
        identity: Identity,
        boot_id: String,
        clock: Clock,
        handles: Handles,
        inputs: Inputs,
    ) -> Self {
        // The keeper's disk is the one that results need.
        let disk = options.keeper_dir.as_deref().unwrap_or(identity.directory.path());
        let health = Health::new(disk);
        Self {
            slots: usize::from(options.slots),
            options,
            identity,
            boot_id,
            clock,
            handles,
            supervisor: Supervisor::from_env(),
            runs: Runs::default(),
            membership: Membership::None,
            keeper: Keeper::Away,
            older_keepers: Vec::new(),
            silent: Vec::new(),
            lists: 0,
            let_go: Vec::new(),
            offering: Offering::default(),
            foreign: 0,
            unknown: Vec::new(),
            session: None,
            database: None,
            away: Away::default(),
            pool_away: Away::default(),
            was_member: false,
            draining: false,
            ticked: false,
            health,
            counters: Counters::default(),
            unenforced: Vec::new(),
            unlimited: None,
            register_at: Boot(0),
            refusals: Backoff::default(),
            leaving: None,
            keeper_process: None,
            rest_at: Some(Boot(0)),
            inputs,
        }
    }

    /// Runs until it has left.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut gulp = Vec::with_capacity(GULP);
        let mut watchdog = self.supervisor.interval().map(ticking);
        tracing::info!(event = event::GUARDIAN_STARTING, host = %self.options.host, slots = self.slots, "guardian starts");
        loop {
            tokio::select! {
                _ = self.inputs.inbox.recv_many(&mut gulp, GULP) => {
                    for input in gulp.drain(..) {
                        self.handle(input)?;
                    }
                }
                rang = self.inputs.timer.ring() => rang?,
                _ = stop.wait_for(|stop| *stop), if self.leaving.is_none() => self.leave(),
                Ok(()) = self.inputs.reload.changed() => self.reloaded(),
                () = next_tick(&mut watchdog) => self.supervisor.alive(),
            }
            let now = Boot::now();
            // Also when something else than the alarm woke it.
            if let Some(set_for) = self.inputs.timer.passed(now) {
                self.woke_up(set_for, now);
            }
            if let Some(outcome) = self.settle(now) {
                tracing::info!(event = event::GUARDIAN_ENDED, host = %self.options.host, "guardian ends");
                return outcome;
            }
            self.inputs.timer.set(self.next_alarm(now))?;
        }
    }

    fn handle(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Link(event) => self.on_link(event),
            Input::Hands(event) => self.on_hands(event),
            Input::Reporter(event) => {
                self.on_reporter(event);
                Ok(())
            }
            Input::Ticker(event) => self.on_ticker(event),
            Input::Look(answer) => {
                // Who asked may have gone.
                let _ = answer.send(self.snapshot(Boot::now()));
                Ok(())
            }
        }
    }

    /// The next sessions use the new settings. The keeper reads its policy anew.
    fn reloaded(&self) {
        tracing::info!(event = event::GUARDIAN_RELOADED, "settings read again");
        let told_keeper = self.keeper_process.as_ref().map(|process| process.signal(Signal::SIGHUP));
        if let Some(Err(err)) = told_keeper {
            // Another user's, whose unit tells it, or out of sight.
            tracing::info!(event = event::KEEPER_NOT_RELOADED, error = %told(&err), "the keeper does not read its policy again");
        }
    }

    fn woke_up(&mut self, set_for: Boot, now: Boot) {
        if let Membership::Member(member) = &mut self.membership
            && member.pace.woke_up(set_for, now)
        {
            tracing::warn!(
                event = event::GUARDIAN_WOKE_LATE,
                "woke up late: nothing starts before the database has been asked"
            );
        }
    }

    /// Does what the state asks for. Returns the outcome when the guardian has left.
    fn settle(&mut self, now: Boot) -> Option<Result<()>> {
        self.register_if_due(now);
        self.start_due(now);
        self.claim_if_due(now);
        self.leave_if_done(now)
    }

    /// The next moment at which something is due by itself.
    fn next_alarm(&self, now: Boot) -> Boot {
        let alarms =
            [self.next_start(now), self.next_claim(now), self.next_registration(), self.give_up_at()];
        let idle = now + std::time::Duration::from_secs(60);
        alarms.into_iter().flatten().min().unwrap_or(idle)
    }

    pub(super) fn member(&self) -> Option<&Member> {
        match &self.membership {
            Membership::Member(member) => Some(member),
            _ => None,
        }
    }

    pub(super) fn member_mut(&mut self) -> Option<&mut Member> {
        match &mut self.membership {
            Membership::Member(member) => Some(member),
            _ => None,
        }
    }

    pub(super) fn tell_link(&self, command: LinkCommand) {
        if let Some(session) = self.session {
            self.handles.link.send(session, command);
        }
    }

    /// The keeper's name for a run.
    pub(super) fn key(&self, run_id: i64, claim_no: i64) -> Option<RunKey> {
        let installation = self.identity.installation?;
        Some(RunKey { installation, run_id, claim_no })
    }
}

fn ticking(every: std::time::Duration) -> Interval {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn next_tick(watchdog: &mut Option<Interval>) {
    match watchdog {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
