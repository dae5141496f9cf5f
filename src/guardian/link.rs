//! Connection A: one session that listens, registers and claims. It connects again for ever.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    Input,
    backoff::Backoff,
    moment::Boot,
    reporter::{Lent, ReporterHandle},
    told,
};
use crate::{
    db::{
        ControlSession, Notice, Sessions,
        messages::{Answer, Claim, Claimed, Registered, Registration, Server},
    },
    error::{Error, ErrorKind, Result},
    keeper::protocol::Database,
    sqlstate,
};

/// Between two looks at the database's clock, at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the guardian asks of the link. Each goes with the number of the session it was made for: in a
/// later one it would be stale.
#[derive(Debug)]
pub(super) enum Command {
    Register(Box<Registration>),
    Claim(Box<Claim>),
    SignOff(i64),
    /// Another connection found that this server is of no more use.
    Reconnect,
    /// Another connection reached the database: do not wait to try again.
    Retry,
}

/// What the link tells the guardian.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// Connected. `other_server`: another one than before, or it was started anew. `server` tells one from the other.
    Up {
        session: u64,
        other_server: bool,
        server: String,
        database: Database,
    },
    /// Not connected; the link keeps trying.
    Down(Error),
    /// A notification, or a reason to look as if there had been one.
    Woken {
        tick: bool,
    },
    Registered {
        registered: Box<Registered>,
        sent: Boot,
        received: Boot,
    },
    Claimed {
        claimed: Box<Claimed>,
        sent: Boot,
        received: Boot,
    },
    /// The database has committed these ends, which a claim took along.
    Finished(Vec<(i64, Answer)>),
    /// The database's clock, asked for nothing else: a claim takes as long as its commit does.
    Clock {
        now_us: i64,
        sent: Boot,
        received: Boot,
    },
    /// The database knows this guardian no more.
    Superseded,
    /// The database refused the registration or the claim.
    Refused(Error),
    SignedOff,
}

/// The guardian's handle.
#[derive(Debug)]
pub(super) struct LinkHandle {
    commands: mpsc::UnboundedSender<(u64, Command)>,
}

impl LinkHandle {
    /// Sends a command for a session; the link task lives as long as the guardian.
    pub(super) fn send(&self, session: u64, command: Command) {
        let _ = self.commands.send((session, command));
    }
}

#[derive(Debug)]
pub(super) struct Link {
    sessions: Sessions,
    inputs: mpsc::UnboundedSender<Input>,
    /// Whose ends go along with claims.
    reporter: ReporterHandle,
    commands: mpsc::UnboundedReceiver<(u64, Command)>,
    number: u64,
    /// Whose channel to listen on, once registered.
    host_id: Option<i64>,
    server: Option<Server>,
    /// When the clock was looked at last.
    looked_at: Boot,
    backoff: Backoff,
}

impl Link {
    pub(super) fn new(
        sessions: Sessions,
        inputs: mpsc::UnboundedSender<Input>,
        reporter: ReporterHandle,
    ) -> (Self, LinkHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        let backoff = Backoff::default();
        let link = Self {
            sessions,
            inputs,
            reporter,
            commands,
            number: 0,
            host_id: None,
            server: None,
            looked_at: Boot(0),
            backoff,
        };
        (link, LinkHandle { commands: sender })
    }

    pub(super) async fn run(mut self) {
        loop {
            let err = match self.connect().await {
                Ok(session) => self.serve(session).await,
                Err(err) => err,
            };
            self.tell(LinkEvent::Down(err));
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        let pause = self.backoff.next();
        let retry =
            async { while !matches!(self.commands.recv().await, Some((_, Command::Retry)) | None) {} };
        // What else was asked meant a session that is gone.
        tokio::time::timeout(pause, retry).await.ok();
    }

    async fn connect(&mut self) -> Result<ControlSession> {
        let session = ControlSession::open(&self.sessions).await?;
        let server = session.api().server().await?;
        if let Some(host_id) = self.host_id {
            session.api().listen(host_id).await?;
        }
        let other_server = self.server.as_ref() != Some(&server);
        let database = Database {
            system_identifier: server.system_identifier().to_owned(),
            address: server.address().to_owned(),
        };
        let name = server.to_string();
        self.server = Some(server);
        self.number += 1;
        self.tell(LinkEvent::Up { session: self.number, other_server, server: name, database });
        Ok(session)
    }

    /// Serves a session until it is of no more use, and returns why.
    async fn serve(&mut self, mut session: ControlSession) -> Error {
        loop {
            let outcome = tokio::select! {
                notice = session.notice() => self.noticed(&notice),
                Some((number, command)) = self.commands.recv() => {
                    if number == self.number { self.execute(&session, command).await } else { Ok(()) }
                }
            };
            if let Err(err) = outcome {
                return err;
            }
        }
    }

    fn noticed(&self, notice: &Notice) -> Result<()> {
        match notice {
            Notice::Wake(payload) => {
                self.tell(LinkEvent::Woken { tick: payload == "tick" });
                Ok(())
            }
            Notice::Resync => Err(Error::new(ErrorKind::Unreachable, "the connection was closed")),
        }
    }

    /// An error returned from here ends the session; a refusal is told instead.
    async fn execute(&mut self, session: &ControlSession, command: Command) -> Result<()> {
        let may_look = matches!(command, Command::Claim(_));
        let outcome = match command {
            Command::Register(registration) => self.register(session, &registration).await,
            Command::Claim(claim) => self.claim(session, &claim).await,
            Command::SignOff(guardian_id) => {
                let done = session.api().sign_off(guardian_id).await;
                done.map(|()| LinkEvent::SignedOff)
            }
            Command::Retry => return Ok(()),
            Command::Reconnect => {
                Err(Error::new(ErrorKind::Unreachable, "another connection lost the database"))
            }
        };
        match outcome {
            Ok(event) => {
                self.backoff.reset();
                self.tell(event);
                if may_look { self.look_at_clock(session).await } else { Ok(()) }
            }
            Err(err) if err.kind() == ErrorKind::Unreachable => Err(err),
            Err(err) if err.code() == Some(sqlstate::GUARDIAN_UNKNOWN) => {
                self.tell(LinkEvent::Superseded);
                Ok(())
            }
            Err(err) => {
                self.tell(LinkEvent::Refused(err));
                Ok(())
            }
        }
    }

    async fn register(&mut self, session: &ControlSession, this: &Registration) -> Result<LinkEvent> {
        // On its own, because the refusal that may follow takes back what it was asked with.
        if let Some(seen) = &this.seen_tick {
            session.api().note_tick(seen).await?;
        }
        let sent = Boot::now();
        let registered = session.api().register_guardian(this).await?;
        let received = Boot::now();
        // Before the first claim, so that nothing falls between the two.
        session.api().listen(registered.host_id).await?;
        self.host_id = Some(registered.host_id);
        Ok(LinkEvent::Registered { registered: Box::new(registered), sent, received })
    }

    /// Takes along what has ended: one commit for both, and what waited for these ends is claimed with them.
    async fn claim(&self, session: &ControlSession, claim: &Claim) -> Result<LinkEvent> {
        if let Some(lent) = self.reporter.lend()
            && let Some(event) = self.finish_and_claim(session, lent, claim).await?
        {
            return Ok(event);
        }
        let sent = Boot::now();
        let claimed = session.api().claim_job(claim).await?;
        Ok(LinkEvent::Claimed { claimed: Box::new(claimed), sent, received: Boot::now() })
    }

    /// None when the database took neither: no result that it cannot take, and no lock that one waits for, may keep a
    /// claim from renewing the lease.
    async fn finish_and_claim(
        &self,
        session: &ControlSession,
        lent: Lent,
        claim: &Claim,
    ) -> Result<Option<LinkEvent>> {
        let sent = Boot::now();
        match session.api().finish_and_claim(&lent.ends, claim).await {
            Ok((answers, claimed)) => {
                let received = Boot::now();
                self.tell(LinkEvent::Finished(self.reporter.arrived(lent, answers)));
                Ok(Some(LinkEvent::Claimed { claimed: Box::new(claimed), sent, received }))
            }
            Err(err) => {
                self.reporter.came_back(lent);
                if err.kind() == ErrorKind::Unreachable {
                    return Err(err);
                }
                tracing::debug!(error = %told(&err), "a claim without the results that it took along");
                Ok(None)
            }
        }
    }

    /// Runs start as late as the clock is uncertain, so it is looked at after each claim, but not when there is one
    /// after the other.
    async fn look_at_clock(&mut self, session: &ControlSession) -> Result<()> {
        let sent = Boot::now();
        if sent.since(self.looked_at) < LOOK_EVERY {
            return Ok(());
        }
        self.looked_at = sent;
        match session.api().now_us().await {
            Ok(now_us) => {
                self.tell(LinkEvent::Clock { now_us, sent, received: Boot::now() });
                Ok(())
            }
            // The claims go on without.
            Err(err) if err.kind() != ErrorKind::Unreachable => Ok(()),
            Err(err) => Err(err),
        }
    }

    fn tell(&self, event: LinkEvent) {
        // The guardian ends this task before it stops listening.
        let _ = self.inputs.send(Input::Link(event));
    }
}
