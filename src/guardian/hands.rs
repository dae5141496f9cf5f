//! The guardian's hands: the connections to the keepers of the host, made anew whenever one breaks.

use std::{pin::pin, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, interval_at, sleep_until},
};
use uuid::Uuid;

use super::{
    Input,
    backoff::Backoff,
    crew::{Crew, Heard, Site},
    hearing::{Hearing, Lapse},
    silent::{self, Silent},
};
use crate::{
    error::{Error, Result},
    keeper::{
        KeeperProcess, program,
        protocol::{Event, KeeperHello, Request, RunKey},
    },
};

/// How often an older keeper of a unit is asked whether it can leave.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What the hands tell the guardian.
#[derive(Debug)]
pub(super) enum HandsEvent {
    /// The keepers have answered, first the one that starts runs, whose process this is, but for these; they offer
    /// results, and the list of all comes next.
    Connected(Vec<KeeperHello>, KeeperProcess, Vec<Silent>),
    Said(Event),
    /// The keeper that starts the runs has said nothing since it was told to start one, though it was asked; or has
    /// spoken again.
    Silent(bool),
    /// Every result has been offered again, for so many requests to do so.
    Offered(u64),
    /// An older keeper had nothing left to do.
    Left(Uuid),
    /// The keeper has left for a newer one, and the hands wait for that.
    Replaced,
    /// No keeper is connected, or not all are; the hands keep trying.
    Lost(Error),
}

/// The guardian's handle.
#[derive(Debug)]
pub(super) struct HandsHandle {
    requests: mpsc::UnboundedSender<Request>,
}

impl HandsHandle {
    /// Sends a request to the keepers; one that is not connected misses it, and its list will tell.
    pub(super) fn send(&self, request: Request) {
        let _ = self.requests.send(request);
    }
}

#[derive(Debug)]
pub(super) struct Hands {
    site: Site,
    inputs: mpsc::UnboundedSender<Input>,
    requests: mpsc::UnboundedReceiver<Request>,
    backoff: Backoff,
    /// How often it was asked to have acknowledged results offered again, for how many of these requests they are
    /// offered now or were last, and for how many they have been, to the end.
    offers_asked: u64,
    offering_for: u64,
    offers_made: u64,
    /// Whether the place of an older keeper could not be used then.
    offered_in_part: bool,
    /// The program of a keeper that was asked to leave: it is what its unit starts.
    asked: Option<String>,
    /// What was asked about runs while the keeper that has them was not connected.
    undelivered: Vec<Request>,
}

/// Why a crew is served no longer.
#[derive(Debug)]
enum Ended {
    /// The keeper that starts the runs has left for a newer one.
    Replaced,
    /// One has fallen silent, or is so no more.
    Changed,
}

impl Hands {
    pub(super) fn new(site: Site, inputs: mpsc::UnboundedSender<Input>) -> (Self, HandsHandle) {
        let (sender, requests) = mpsc::unbounded_channel();
        let hands = Self {
            site,
            inputs,
            requests,
            backoff: Backoff::default(),
            offers_asked: 0,
            offering_for: 0,
            offers_made: 0,
            offered_in_part: false,
            asked: None,
            undelivered: Vec::new(),
        };
        (hands, HandsHandle { requests: sender })
    }

    pub(super) async fn run(mut self) {
        loop {
            let outcome = match self.connect().await {
                Ok(crew) => self.serve(crew).await,
                Err(err) => Err(err),
            };
            match outcome {
                Ok(Ended::Changed) => {}
                Ok(Ended::Replaced) => self.tell(HandsEvent::Replaced),
                Err(err) => self.tell(HandsEvent::Lost(err)),
            }
            tokio::time::sleep(self.backoff.next()).await;
        }
    }

    async fn connect(&mut self) -> Result<Crew> {
        let mut crew = self.site.gather().await?;
        self.backoff.reset();
        if std::mem::take(&mut self.offered_in_part) {
            self.offers_made = self.offers_made.saturating_sub(1);
        }
        // Meant for earlier connections, but for what a person has asked: the database does not ask again.
        while let Ok(request) = self.requests.try_recv() {
            self.offers_asked += u64::from(matches!(request, Request::Offer {}));
            if matches!(request, Request::Signal(_)) {
                self.undelivered.push(request);
            }
        }
        self.tell(HandsEvent::Connected(crew.hellos(), crew.process(), crew.silent().to_vec()));
        for request in std::mem::take(&mut self.undelivered) {
            self.deliver(request, &mut crew)?;
        }
        Ok(crew)
    }

    /// What concerns a run of a silent keeper is told once that one answers.
    fn deliver(&mut self, request: Request, crew: &mut Crew) -> Result<()> {
        let sent = crew.send(&request);
        let is_silent = |key: &RunKey| crew.silent().iter().any(|it| it.has(key.run_id, key.claim_no));
        if let Request::Signal(signal) = &request
            && (sent.is_err() || is_silent(&signal.key))
        {
            self.undelivered.push(request);
        }
        sent
    }

    /// Serves until another crew is needed.
    async fn serve(&mut self, mut crew: Crew) -> Result<Ended> {
        let mut change = pin!(silent::change(crew.silent().to_vec(), self.site.epoch));
        crew.send(&Request::List {})?;
        self.offer_if_asked(&mut crew).await?;
        let may_be_newer = self.site.keeper_dir.is_some()
            && crew.program() != program()
            && self.asked.as_deref() != Some(crew.program());
        let mut hearing = Hearing::default();
        let mut ask = interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
        loop {
            let (patient_until, lapse_at) = (crew.patient_until(), hearing.next_at());
            tokio::select! {
                (number, event) = crew.receive() => {
                    if number == 0 && hearing.heard() {
                        self.tell(HandsEvent::Silent(false));
                    }
                    match crew.hear(number, event).await? {
                        Heard::Events(events) => self.pass_on(events, &mut crew).await?,
                        Heard::Left(keeper, events) => {
                            self.tell(HandsEvent::Left(keeper));
                            self.pass_on(events, &mut crew).await?;
                        }
                        Heard::Replaced => return Ok(Ended::Replaced),
                    }
                }
                () = sleep_until(lapse_at.unwrap_or_else(Instant::now)), if lapse_at.is_some() => {
                    match hearing.lapse(Instant::now()) {
                        Some(Lapse::Ask) => crew.ask()?,
                        Some(Lapse::Silent) => self.tell(HandsEvent::Silent(true)),
                        None => {}
                    }
                }
                Some(request) = self.requests.recv() => {
                    if matches!(request, Request::Start(_)) {
                        hearing.told(Instant::now());
                    }
                    if matches!(request, Request::Offer {}) {
                        let idle = self.offers_made == self.offers_asked;
                        self.offers_asked += 1;
                        if idle {
                            self.offer_if_asked(&mut crew).await?;
                        }
                    } else {
                        self.deliver(request, &mut crew)?;
                    }
                }
                () = &mut change => return Ok(Ended::Changed),
                () = sleep_until(patient_until.unwrap_or_else(Instant::now)), if patient_until.is_some() => {
                    return Ok(Ended::Changed);
                }
                _ = ask.tick(), if may_be_newer => {
                    self.asked = Some(crew.program().to_owned());
                    crew.send(&Request::Retire { if_idle: true })?;
                }
            }
        }
    }

    async fn pass_on(&mut self, events: Vec<Event>, crew: &mut Crew) -> Result<()> {
        for event in events {
            if !matches!(event, Event::Offered {}) {
                self.tell(HandsEvent::Said(event));
                continue;
            }
            self.offers_made = self.offering_for;
            self.offered_in_part = !crew.silent().is_empty();
            if self.offers_made == self.offers_asked {
                self.tell(HandsEvent::Offered(self.offers_made));
            }
            self.offer_if_asked(crew).await?;
        }
        Ok(())
    }

    /// One after the other: a keeper that is asked again before it is through begins anew, and says once that it is.
    async fn offer_if_asked(&mut self, crew: &mut Crew) -> Result<()> {
        self.offering_for = self.offers_asked;
        if self.offers_made < self.offers_asked { crew.offer_again(&self.site).await } else { Ok(()) }
    }

    fn tell(&self, event: HandsEvent) {
        let _ = self.inputs.send(Input::Hands(event));
    }
}
