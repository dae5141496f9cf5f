//! Breaks one thing after the other, several at a time, and mends them; all by a seed.

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};

use super::{
    machine::Machine,
    records::{Call, Fault, Kind, now},
    servers::Servers,
    standing::Change,
};
use crate::support::{Finished, Server};

/// How often each kind of fault comes in a round of all of them.
const DECK: [(Kind, usize); 18] = [
    (Kind::GuardianKilled, 3),
    (Kind::GuardianStopped, 2),
    (Kind::GuardianPaused, 1),
    (Kind::KeeperKilled, 2),
    (Kind::KeeperPaused, 2),
    (Kind::HostCrashed, 1),
    (Kind::Upgraded, 2),
    (Kind::BackendsEnded, 3),
    (Kind::ServerRestarted, 1),
    (Kind::ServerCrashed, 1),
    (Kind::FailedOver, 1),
    (Kind::CommitsLost, 1),
    (Kind::NetworkCut, 3),
    (Kind::NetworkSlow, 1),
    (Kind::NetworkReset, 1),
    (Kind::ConnectionsStranded, 1),
    (Kind::ReplyLost, 3),
    (Kind::DiskFull, 1),
];
/// Calls of which the reply can be lost after the commit.
const REPLIES: [&str; 5] = ["claim_job", "finish_job", "start_job", "tick", "register_guardian"];

pub(super) struct Driver {
    random: fastrand::Rng,
    /// Of the current step alone: what one of them needs does not change the next one.
    pub(super) dice: fastrand::Rng,
    deck: Vec<Kind>,
    pub(super) machines: Vec<Machine>,
    pub(super) servers: Servers,
    pub(super) faults: Vec<Fault>,
    pub(super) calls: Vec<Call>,
    pub(super) changes: Vec<Change>,
    /// Whether jobs are altered, suspended and the like meanwhile.
    pub(super) changes_jobs: bool,
    /// How each job is scheduled.
    pub(super) definitions: HashMap<&'static str, String>,
    /// What ends later: when, at which host, and which of the faults it is.
    open: Vec<(Instant, usize, usize)>,
    next_token: i64,
    settled: bool,
    /// How often an older keeper was seen at work beside a newer one.
    pub(super) side_by_side: usize,
    /// Guardians that ended, with what they said: none may by itself, none may panic.
    pub(super) ended: Vec<String>,
}

impl Driver {
    pub(super) fn new(seed: u64, machines: Vec<Machine>, servers: Servers) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            dice: fastrand::Rng::with_seed(seed),
            deck: Vec::new(),
            machines,
            servers,
            faults: Vec::new(),
            calls: Vec::new(),
            changes: Vec::new(),
            changes_jobs: false,
            definitions: HashMap::new(),
            open: Vec::new(),
            next_token: 0,
            settled: false,
            side_by_side: 0,
            ended: Vec::new(),
        }
    }

    /// Breaks things until this moment of the machine's clock.
    pub(super) async fn run_until(&mut self, end: i64) {
        while now() < end {
            self.dice = self.random.fork();
            self.mend_what_is_due();
            self.watch();
            self.side_by_side += self.machines.iter().filter(|machine| machine.has_older_keepers()).count();
            if self.dice.bool() {
                self.ask().await;
            }
            if self.changes_jobs {
                self.change().await;
            }
            let kind = self.next_kind();
            let host = self.dice.usize(..self.machines.len());
            let length = Duration::from_millis(self.dice.u64(100..9_000));
            if self.is_whole(kind, host) {
                self.break_it(kind, host, length).await;
            }
            sleep(Duration::from_millis(self.dice.u64(200..1_200))).await;
        }
    }

    /// All works again.
    pub(super) fn heal(&mut self) {
        self.watch();
        for (_, _, fault) in mem::take(&mut self.open) {
            self.faults[fault].until = now();
        }
        self.machines.iter_mut().for_each(Machine::heal);
    }

    /// Ends all guardians in order: each leaves when all it knows is delivered.
    pub(super) fn stop(&mut self) {
        self.watch();
        self.settled = true;
        for number in 0..self.machines.len() {
            let finished = self.machines[number].end(Signal::SIGTERM);
            self.note_end(number, finished, true);
        }
    }

    fn next_kind(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = DECK.iter().flat_map(|(kind, times)| std::iter::repeat_n(*kind, *times)).collect();
            self.random.shuffle(&mut self.deck);
        }
        self.deck.pop().expect("just filled")
    }

    /// Whether there is something of this kind to break.
    fn is_whole(&self, kind: Kind, host: usize) -> bool {
        let machine = &self.machines[host];
        let open = |kind: Kind| self.open.iter().any(|o| o.1 == host && self.faults[o.2].kind == kind);
        match kind {
            Kind::GuardianKilled | Kind::GuardianStopped | Kind::HostCrashed => machine.guardian.is_some(),
            Kind::GuardianPaused => machine.guardian.is_some() && !machine.paused,
            Kind::KeeperPaused => machine.paused_keepers.is_empty(),
            Kind::Upgraded => machine.guardian.is_some() && !open(kind),
            Kind::DiskFull => machine.disk.is_some() && !open(kind),
            Kind::NetworkCut | Kind::NetworkSlow => !open(kind),
            _ => true,
        }
    }

    async fn break_it(&mut self, kind: Kind, host: usize, length: Duration) {
        let here = self.machines[host].name();
        let from = now();
        let mut span = (from, from);
        let mut everywhere = false;
        let mut lasts = true;
        match kind {
            Kind::GuardianKilled => self.end(host, Signal::SIGKILL),
            Kind::GuardianStopped => self.end(host, Signal::SIGTERM),
            Kind::GuardianPaused => self.machines[host].pause(),
            Kind::KeeperPaused => self.machines[host].pause_keepers(),
            Kind::Upgraded => {
                let kill = self.dice.u8(..3) == 0;
                self.machines[host].replaced_by = if kill { Signal::SIGKILL } else { Signal::SIGTERM };
                self.machines[host].install(self.dice.u64(..));
            }
            Kind::HostCrashed => {
                self.end(host, Signal::SIGKILL);
                span = self.machines[host].kill_keeper();
            }
            Kind::KeeperKilled => {
                span = self.machines[host].kill_keeper();
                lasts = false;
            }
            Kind::NetworkCut => self.machines[host].wires(crate::support::Proxy::cut),
            Kind::NetworkSlow => self.machines[host].wires(|wire| wire.delay(length / 50)),
            Kind::DiskFull => {
                let machine = &mut self.machines[host];
                machine.filler = machine.disk.as_ref().map(crate::support::SmallDisk::fill);
            }
            Kind::NetworkReset | Kind::ConnectionsStranded | Kind::ReplyLost => {
                self.disturb(kind, host);
                lasts = false;
            }
            Kind::BackendsEnded
            | Kind::ServerRestarted
            | Kind::ServerCrashed
            | Kind::FailedOver
            | Kind::CommitsLost => {
                self.strike_the_server(kind, length).await;
                (everywhere, lasts) = (true, false);
                span.1 = now();
            }
        }
        let place = if everywhere { "the server" } else { here };
        eprintln!(
            "{} {kind:?} at {place}{}",
            from,
            if lasts { format!(" for {length:?}") } else { String::new() }
        );
        if lasts {
            // A dead keeper stays so; the host may be down for much longer.
            self.open.push((Instant::now() + length, host, self.faults.len()));
            span.1 = if kind.ends_the_keeper() { span.1 } else { i64::MAX };
        }
        let host = (!everywhere).then(|| here.to_owned());
        self.faults.push(Fault { kind, host, from: span.0, until: span.1 });
    }

    fn disturb(&mut self, kind: Kind, host: usize) {
        let text = *self.dice.choice(&REPLIES).expect("some");
        self.machines[host].wires(|wire| match kind {
            Kind::NetworkReset => wire.reset(),
            Kind::ConnectionsStranded => wire.strand(),
            _ => wire.lose_reply_to(text),
        });
    }

    async fn strike_the_server(&mut self, kind: Kind, length: Duration) {
        // Mostly short; now and then longer than a lease.
        let pause = length * length.as_millis().try_into().unwrap_or(1) / 9_000;
        match kind {
            Kind::ServerRestarted => self.servers.restart(false, pause).await,
            Kind::ServerCrashed => self.servers.restart(true, pause).await,
            Kind::FailedOver | Kind::CommitsLost => {
                let alone = (kind == Kind::CommitsLost).then_some(length / 3);
                self.servers.fail_over(alone, pause / 4).await;
                let ports = self.servers.ports();
                for machine in &self.machines {
                    machine.wires[self.servers.side].lead_to(Server::Port(ports[0]));
                    machine.wires[1 - self.servers.side].lead_to(Server::Port(ports[1]));
                }
            }
            _ => {
                let limit = if self.dice.bool() { 1 } else { 100 };
                let sql = format!(
                    "select count(pg_terminate_backend(pid)) from (
                         select pid from pg_stat_activity where application_name like 'sisyphus:%'
                          order by md5((pid + {})::text) limit {limit}) p",
                    self.dice.u16(..)
                );
                if let Some(client) = self.servers.reach().await {
                    client.query(&sql, &[]).await.ok();
                }
            }
        }
    }

    /// Asks for runs by hand; whether it was done is known only when the database has said so.
    async fn ask(&mut self) {
        let many = self.dice.bool();
        let count = if many { self.dice.i64(1..15) } else { 1 };
        let tokens: Vec<i64> = (self.next_token..self.next_token + count).collect();
        self.next_token += count;
        let Some(client) = self.servers.reach().await else { return };
        let job = if many { "many" } else { "by_hand" };
        let payloads: Vec<_> = tokens.iter().map(|token| serde_json::json!({ "n": token })).collect();
        let asking = async {
            if many {
                client.query("select sisyphus.run_many($1, $2)", &[&job, &payloads]).await
            } else {
                client.query("select sisyphus.run_now($1, payload => $2)", &[&job, &payloads[0]]).await
            }
        };
        let acknowledged = matches!(timeout(Duration::from_secs(3), asking).await, Ok(Ok(_)));
        self.calls.push(Call { job, tokens, at: now(), acknowledged });
    }

    fn mend_what_is_due(&mut self) {
        let (due, open) = mem::take(&mut self.open).into_iter().partition(|o| o.0 <= Instant::now());
        self.open = open;
        for (_, host, fault) in due {
            self.mend(self.faults[fault].kind, host);
            if self.faults[fault].until == i64::MAX {
                self.faults[fault].until = now();
            }
        }
    }

    fn mend(&mut self, kind: Kind, host: usize) {
        if kind == Kind::Upgraded && self.machines[host].guardian.is_some() {
            // In the meantime something else may have restarted it: once more does no harm.
            self.end(host, self.machines[host].replaced_by);
            self.machines[host].start();
        }
        let machine = &mut self.machines[host];
        match kind {
            Kind::GuardianKilled | Kind::GuardianStopped | Kind::HostCrashed => machine.start(),
            Kind::GuardianPaused => machine.resume(),
            Kind::KeeperPaused => machine.resume_keepers(),
            Kind::NetworkCut => machine.wires(crate::support::Proxy::mend),
            Kind::NetworkSlow => machine.wires(|wire| wire.delay(Duration::ZERO)),
            Kind::DiskFull => machine.filler = None,
            _ => {}
        }
    }

    fn end(&mut self, host: usize, signal: Signal) {
        let finished = self.machines[host].end(signal);
        self.note_end(host, finished, signal == Signal::SIGTERM);
    }

    /// Guardians that have ended by themselves.
    fn watch(&mut self) {
        for number in 0..self.machines.len() {
            let gone = self.machines[number].guardian.as_mut().is_some_and(|guardian| !guardian.is_running());
            if gone {
                let finished = self.machines[number].guardian.take().map(crate::support::Spawned::wait);
                self.ended.push(format!("{} ended by itself: {finished:?}", self.machines[number].name()));
                self.machines[number].start();
            }
        }
    }

    fn note_end(&mut self, host: usize, finished: Option<Finished>, orderly: bool) {
        let Some(finished) = finished else { return };
        let name = self.machines[host].name();
        // While things are broken it may say that not all could be delivered; in the end it may not.
        let undelivered = !self.settled && finished.stderr.contains("did not hear of everything in time");
        // It was told to end before it could listen.
        let orderly = orderly && !finished.stderr.is_empty();
        if finished.stderr.contains("panicked") || orderly && finished.code() != Some(0) && !undelivered {
            self.ended.push(format!("{name}: {finished:?}"));
        }
    }
}
