//! Becoming the guardian of the host: the session, the registration, and what breaks it.

use std::time::Duration;

use super::{
    actor::{Guardian, Keeper, Member, Membership},
    link::{Command as LinkCommand, LinkEvent},
    moment::Boot,
    pace::Pace,
    reporter::Command as ReporterCommand,
    ticker::{Command as TickerCommand, TickerEvent},
    told,
};
use crate::{
    db::messages::{Registered, Registration},
    error::{Error, ErrorKind, Result},
    keeper::protocol::{GuardianHello, PROTOCOL, Request},
    observe::event,
    sqlstate,
};

/// What a registration is refused with for what this guardian says of itself: its name, or a pool that is not there.
const SETTING: [&str; 2] = [sqlstate::INVALID_ARGUMENT, sqlstate::UNDEFINED_OBJECT];

impl Guardian {
    pub(super) fn on_link(&mut self, event: LinkEvent) -> Result<()> {
        match event {
            LinkEvent::Up { session, other_server, server, database } => {
                self.database = Some(database);
                self.connected(session, other_server.then_some(server))?;
            }
            LinkEvent::Down(err) => return self.disconnected(err),
            LinkEvent::Woken { tick } => self.woken(tick),
            LinkEvent::Registered { registered, sent, received } => {
                self.clock.sample(sent, received, registered.settings.now_us);
                self.registered(*registered)?;
            }
            LinkEvent::Claimed { claimed, sent, received } => self.claimed(*claimed, sent, received),
            LinkEvent::Finished(answers) => self.finished(&answers),
            LinkEvent::Clock { now_us, sent, received } => self.clock.sample(sent, received, now_us),
            LinkEvent::Superseded => self.superseded(),
            LinkEvent::Refused(err) => return self.refused(err),
            LinkEvent::SignedOff => self.signed_off(),
        }
        Ok(())
    }

    fn connected(&mut self, session: u64, other_server: Option<String>) -> Result<()> {
        tracing::info!(event = event::DATABASE_CONNECTED, session, "connected to the database");
        self.session = Some(session);
        self.away.is_over();
        self.counters.connects += 1;
        if let Some(server) = other_server {
            // Its clock is another one, and what the old one committed last may be lost.
            self.clock.reset();
            self.offer_to(server)?;
        }
        self.handles.reporter.send(ReporterCommand::Retry);
        match &mut self.membership {
            Membership::Member(member) => {
                member.pace.failed(Boot::now(), Duration::ZERO);
                self.handles.ticker.send(TickerCommand::Within(Duration::ZERO));
            }
            _ => self.list_anew(),
        }
        Ok(())
    }

    fn disconnected(&mut self, err: Error) -> Result<()> {
        if self.session.take().is_some() {
            tracing::warn!(event = event::DATABASE_LOST, error = %told(&err), "the database is away");
        } else if self.away.is_news(&err, Boot::now()) {
            tracing::warn!(event = event::DATABASE_AWAY, error = %told(&err), hint = err.hint_text(), "the database is out of reach");
        } else {
            tracing::debug!(error = %told(&err), "the database is still away");
        }
        self.handles.pool.drop_idle();
        match &mut self.membership {
            Membership::Member(member) => member.pace.failed(Boot::now(), Duration::ZERO),
            _ => self.membership = Membership::None,
        }
        self.sign_off_was_lost();
        let hopeless = err.kind() != ErrorKind::Unreachable && !self.was_member;
        let single = self.options.once && self.leaving.is_none();
        if hopeless || single { Err(err) } else { Ok(()) }
    }

    /// There is something to claim: now, or when it has been planned.
    fn woken(&mut self, tick: bool) {
        if tick {
            self.handles.ticker.send(TickerCommand::Now);
        } else if let Some(member) = self.member_mut() {
            member.pace.want();
        }
    }

    /// The database refused something although it could be asked. What was never right ends the daemon;
    /// later it may be an upgrade or a change of rights on its way.
    fn refused(&mut self, err: Error) -> Result<()> {
        let now = Boot::now();
        let is_setting = !self.was_member && err.code().is_some_and(|code| SETTING.contains(&code));
        let err = if is_setting { err.with_kind(ErrorKind::Config) } else { err };
        let never_right = matches!(err.kind(), ErrorKind::Schema | ErrorKind::Config)
            || err.code() == Some(sqlstate::INSUFFICIENT_PRIVILEGE);
        if self.options.once || never_right && !self.was_member {
            return Err(err.hint_if_denied("grant sisyphus_guardian to the login of this guardian"));
        }
        let wait = self.refusals.next();
        tracing::warn!(event = event::DATABASE_REFUSED, error = %told(&err), hint = err.hint_text(), "the database refused");
        if err.code() == Some(sqlstate::NOT_ADOPTED) {
            // What was claimed elsewhere is not to be started for this database, and what it had it may have no more.
            self.identity.unsettle()?;
            self.leave_membership();
            self.list_anew();
            self.register_at = now + wait;
        } else if let Membership::Member(member) = &mut self.membership {
            member.pace.failed(now, wait);
        } else {
            self.membership = Membership::None;
            self.register_at = now + wait;
        }
        Ok(())
    }

    /// The database gave this host to another incarnation, or gave it up. The jobs go on.
    pub(super) fn superseded(&mut self) {
        if matches!(self.membership, Membership::Member(_)) {
            tracing::warn!(
                event = event::GUARDIAN_SUPERSEDED,
                "the database does not know this guardian any more: registering anew"
            );
            self.leave_membership();
            self.list_anew();
        }
    }

    fn leave_membership(&mut self) {
        self.membership = Membership::None;
        self.runs.drop_unstarted();
        self.handles.reporter.send(ReporterCommand::Guardian(None));
        self.handles.ticker.send(TickerCommand::Rest);
    }

    pub(super) fn register_if_due(&mut self, now: Boot) {
        let Keeper::Listed(keeper) = self.keeper else { return };
        if self.next_registration().is_none_or(|at| at > now) {
            return;
        }
        let registration = Registration {
            host: self.options.host.clone(),
            slots: i32::from(self.options.slots),
            labels: serde_json::json!(self.options.labels),
            pools: self.options.pools.clone(),
            host_key: self.identity.host_key,
            boot_id: self.boot_id.clone(),
            // The first is the one that starts runs.
            keepers: std::iter::once(keeper).chain(self.older_keepers.iter().copied()).collect(),
            held: self.runs.held().into_iter().chain(self.unknown.iter().copied()).collect(),
            periodic: self.options.once,
            seen_tick: self.identity.seen_tick(),
        };
        self.tell_link(LinkCommand::Register(Box::new(registration)));
        self.membership = Membership::Asked(self.lists);
    }

    pub(super) fn next_registration(&self) -> Option<Boot> {
        let may = self.session.is_some()
            && !self.offering.is_open()
            && self.leaving.is_none()
            && matches!(self.membership, Membership::None);
        (may && matches!(self.keeper, Keeper::Listed(_))).then_some(self.register_at)
    }

    fn registered(&mut self, registered: Registered) -> Result<()> {
        let is_another = self.identity.serve(registered.installation)?;
        if is_another && self.foreign + self.unknown.len() > 0 {
            // The keeper's list was read with another installation in mind, or none, and so were the results that it
            // offered. Greeted again it offers them again.
            self.membership = Membership::None;
            let hello = GuardianHello { protocol: PROTOCOL, epoch: self.identity.epoch };
            self.handles.hands.send(Request::Hello(hello));
            self.list_anew();
            return Ok(());
        }
        if !matches!(self.membership, Membership::Asked(lists) if lists == self.lists) {
            // Another keeper has answered meanwhile: what was handed over is not what it has.
            self.membership = Membership::None;
            return Ok(());
        }
        tracing::info!(
            event = event::GUARDIAN_REGISTERED,
            guardian_id = registered.guardian_id,
            host_id = registered.host_id,
            adopted = registered.held.len(),
            "registered"
        );
        self.was_member = true;
        self.refusals.reset();
        self.handles.reporter.send(ReporterCommand::Guardian(Some(registered.guardian_id)));
        self.handles.ticker.send(TickerCommand::Now);
        let pace = Pace::new(&registered.settings, Boot::now());
        self.membership = Membership::Member(Box::new(Member {
            registered,
            pace,
            unacknowledged: Vec::new(),
            offered: 0,
            drained: false,
        }));
        Ok(())
    }

    pub(super) fn on_ticker(&mut self, event: TickerEvent) -> Result<()> {
        match event {
            TickerEvent::Ticked { asked } => {
                self.ticked = true;
                self.pool_reached_it();
                if let (true, Some(member)) = (asked, self.member_mut()) {
                    member.pace.want();
                }
            }
            // Without a tick the pass would never be over.
            TickerEvent::Failed(err) if self.options.once && !self.ticked && self.leaving.is_none() => {
                return Err(err);
            }
            TickerEvent::Failed(err) if err.kind() == ErrorKind::Unreachable => self.pool_lost(&err),
            TickerEvent::Failed(err) => {
                tracing::warn!(event = event::TICK_FAILED, error = %told(&err), "tick failed");
            }
        }
        Ok(())
    }

    /// A pooled session found the database away: the link must not sit on a server that is.
    pub(super) fn pool_lost(&mut self, err: &Error) {
        if self.session.is_some() && self.pool_away.is_news(err, Boot::now()) {
            tracing::warn!(event = event::DATABASE_AWAY, error = %told(err), hint = err.hint_text(), "the database is out of reach for reports and ticks");
        }
        self.handles.pool.drop_idle();
        let gone = err.code().is_some_and(|code| code == sqlstate::READ_ONLY_TRANSACTION);
        if gone {
            self.tell_link(LinkCommand::Reconnect);
        }
    }

    /// A pooled session reached the database, so the link can.
    pub(super) fn pool_reached_it(&mut self) {
        self.pool_away.is_over();
        if self.session.is_none() {
            self.handles.link.send(0, LinkCommand::Retry);
        }
    }
}
