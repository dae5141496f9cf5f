//! The logic alone: a scripted world, and time as a number.

mod ending;

use std::collections::HashSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::keeper::{
    protocol::{Leftovers, RunSpec},
    sys::Exit,
};

const SECOND: i64 = 1_000_000;
const GUARDIAN: Connection = 1;
const TIMES: Times = Times { idle_us: Some(60 * SECOND), start_us: 30 * SECOND };

/// A state with a world that does nothing but note what is asked of it.
struct World {
    state: State,
    now: Moment,
}

impl World {
    fn new() -> Self {
        let now = Moment { boottime_us: 1_000 * SECOND, realtime_us: 0 };
        let keeper = KeeperHello {
            protocol: PROTOCOL,
            keeper_id: Uuid::nil(),
            pid: 9,
            boot_id: "b".into(),
            unenforced: Vec::new(),
            program: "p".into(),
            retiring: false,
        };
        Self { state: State::new(now, keeper, TIMES, []), now }
    }

    fn greeted() -> Self {
        let mut world = Self::new();
        world.hello(GUARDIAN, 1);
        world
    }

    fn hello(&mut self, connection: Connection, epoch: u64) -> Vec<Effect> {
        self.request(connection, Request::Hello(GuardianHello { protocol: PROTOCOL, epoch }))
    }

    fn request(&mut self, connection: Connection, request: Request) -> Vec<Effect> {
        self.input(Input::Request(connection, request))
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        self.state.handle(self.now, input);
        std::iter::from_fn(|| self.state.next_effect()).collect()
    }

    fn pass(&mut self, time_us: i64) -> Vec<Effect> {
        self.now.boottime_us += time_us;
        self.input(Input::Tick)
    }

    /// A run whose program is executing.
    fn running(&mut self, start: Start) -> RunKey {
        let key = start.key();
        let effects = self.request(GUARDIAN, Request::Start(Box::new(start)));
        assert!(matches!(effects[..], [Effect::Spawn(_)]), "{effects:?}");
        self.input(Input::Forked(key, 100));
        let effects = self.input(Input::Executing(key));
        assert!(matches!(&effects[..], [Effect::Send(GUARDIAN, Event::Started(it))] if it.pid == 100));
        key
    }

    /// Ends a run in the order of events that is the usual one.
    fn ended(&mut self, key: RunKey, exit: Exit) -> RunResult {
        self.input(Input::Closed(key));
        let effects = self.input(Input::Exited(key, exit));
        assert!(matches!(effects[..], [Effect::Sweep(it, _)] if it == key), "{effects:?}");
        let effects = self.input(Input::Swept(key));
        assert!(matches!(effects[..], [Effect::Collect(it)] if it == key), "{effects:?}");
        let mut effects = self.input(Input::Collected(key, Box::default()));
        match effects.pop() {
            Some(Effect::Record(result)) if effects.is_empty() => *result,
            other => panic!("{other:?}"),
        }
    }
}

fn start(run_id: i64) -> Start {
    let spec = format!(
        r#"{{"job":"j","run_id":{run_id},"attempt":1,"claim_no":{run_id},"command":"true","due_us":0,"grace":10}}"#
    );
    let spec: RunSpec = serde_json::from_str(&spec).unwrap();
    Start {
        installation: Uuid::nil(),
        host: "web1".into(),
        spec,
        database: None,
        deadline_boottime_us: None,
        expires_boottime_us: None,
    }
}

fn terminate(key: RunKey) -> Request {
    Request::Signal(Signal { key, action: Action::Terminate, reason: "by hand".into() })
}

#[test]
fn a_run_that_ends_by_itself_is_offered_and_forgotten_when_acknowledged() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    let result = world.ended(key, Exit::Code(3));
    assert_eq!((result.exit_code, result.signal, result.ended_by), (Some(3), None, None));
    assert!(result.started.is_some());
    assert!(matches!(world.request(GUARDIAN, Request::Ack(key))[..], [Effect::Forget(it)] if it == key));
    assert!(world.request(GUARDIAN, Request::Ack(key)).is_empty(), "a second ack says nothing new");
}

#[test]
fn a_keeper_that_retires_starts_nothing_and_leaves_with_its_last_result() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    assert!(world.request(GUARDIAN, Request::Retire { if_idle: true }).is_empty());
    world.running(start(2));
    world.request(GUARDIAN, Request::Ack(key));
    assert!(world.request(GUARDIAN, Request::Retire { if_idle: false }).is_empty());
    let effects = world.request(GUARDIAN, Request::Start(Box::new(start(3))));
    assert!(matches!(&effects[..], [Effect::Send(_, Event::Refused(_))]), "{effects:?}");
    let effects = world.hello(GUARDIAN, 2);
    assert!(matches!(&effects[0], Effect::Send(_, Event::Hello(hello)) if hello.retiring), "{effects:?}");
    for run_id in 1..=2 {
        world.ended(RunKey { run_id, claim_no: run_id, ..key }, Exit::Code(0));
    }
    world.request(GUARDIAN, Request::Ack(key));
    assert!(!world.state.is_finished(world.now), "a result is not delivered yet");
    let effects = world.request(GUARDIAN, Request::Ack(RunKey { run_id: 2, claim_no: 2, ..key }));
    assert!(matches!(effects[..], [Effect::Forget(_), Effect::Send(_, Event::Retired {})]), "{effects:?}");
    assert!(world.state.is_finished(world.now));
}

#[test]
fn an_idle_keeper_retires_at_once() {
    let mut world = World::greeted();
    let effects = world.request(GUARDIAN, Request::Retire { if_idle: true });
    assert!(matches!(effects[..], [Effect::Send(_, Event::Retired {})]), "{effects:?}");
    assert!(world.state.is_finished(world.now));
}

#[test]
fn a_second_start_is_not_executed() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    let effects = world.request(GUARDIAN, Request::Start(Box::new(start(1))));
    assert!(matches!(effects[..], [Effect::Send(GUARDIAN, Event::Started(_))]), "{effects:?}");
    world.ended(key, Exit::Code(0));
    let effects = world.request(GUARDIAN, Request::Start(Box::new(start(1))));
    assert!(matches!(effects[..], [Effect::Offer(GUARDIAN, it)] if it == key), "{effects:?}");
    world.request(GUARDIAN, Request::Ack(key));
    let effects = world.request(GUARDIAN, Request::Start(Box::new(start(1))));
    assert!(matches!(effects[..], [Effect::Send(GUARDIAN, Event::Refused(_))]), "{effects:?}");
}

#[test]
fn a_newer_guardian_silences_the_older_one() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    let effects = world.hello(2, 2);
    assert!(
        matches!(effects[..], [Effect::Close(GUARDIAN), Effect::Send(2, Event::Hello(_))]),
        "{effects:?}"
    );
    let effects = world.request(GUARDIAN, Request::Start(Box::new(start(7))));
    assert!(matches!(effects[..], [Effect::Close(GUARDIAN)]), "a stale start was obeyed: {effects:?}");
    let effects = world.hello(3, 1);
    assert!(matches!(effects[..], [Effect::Close(3)]), "an older epoch came back: {effects:?}");
    let effects = world.request(2, Request::List {});
    let [Effect::Send(2, Event::Listed { runs })] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(runs.iter().map(|run| (run.key, run.ended)).collect::<Vec<_>>(), [(key, false)]);
}

#[test]
fn who_does_not_greet_is_not_heard() {
    let mut world = World::new();
    assert!(matches!(world.request(5, Request::List {})[..], [Effect::Close(5)]));
    let other = GuardianHello { protocol: PROTOCOL + 1, epoch: 1 };
    let effects = world.request(5, Request::Hello(other));
    assert!(matches!(effects[..], [Effect::Send(5, Event::Hello(_)), Effect::Close(5)]), "{effects:?}");
}

#[test]
fn unacknowledged_results_are_offered_after_each_hello() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    world.ended(key, Exit::Code(0));
    for connection in [2, 3] {
        let effects = world.hello(connection, 1);
        assert!(matches!(effects.last(), Some(Effect::Offer(to, it)) if *to == connection && *it == key));
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_a_result_with_a_reason() {
    let mut world = World::greeted();
    let key = start(1).key();
    world.request(GUARDIAN, Request::Start(Box::new(start(1))));
    world.input(Input::Forked(key, 100));
    let fault = Fault::Spawn("cannot start \"/no\": No such file or directory".into());
    world.input(Input::NotExecuted(key, fault));
    let result = world.ended(key, Exit::Code(127));
    assert_eq!((result.ended_by, result.exit_code, result.pid), (Some(EndedBy::Spawn), None, None));
    assert!(result.started.is_none());
    assert_eq!(result.reason.as_deref(), Some("cannot start \"/no\": No such file or directory"));
}

#[test]
fn the_hosts_trouble_is_no_result() {
    let mut world = World::greeted();
    world.request(GUARDIAN, Request::Start(Box::new(start(1))));
    let effects = world.input(Input::NotForked(start(1).key(), Fault::Host("no process to be had".into())));
    assert!(matches!(effects[..], [Effect::Send(GUARDIAN, Event::Refused(_))]), "{effects:?}");
    // It may come again: nothing of it was started.
    world.running(start(1));
}

#[test]
fn what_the_host_does_not_do_is_a_final_refusal() {
    let mut world = World::greeted();
    world.request(GUARDIAN, Request::Start(Box::new(start(1))));
    let effects = world.input(Input::NotForked(start(1).key(), Fault::Policy("not supported yet".into())));
    assert!(
        matches!(&effects[..], [Effect::Record(it)] if it.ended_by == Some(EndedBy::Policy)),
        "{effects:?}"
    );
}

#[test]
fn stopping_ends_what_runs_takes_nothing_new_and_waits_for_the_last() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    assert!(matches!(world.input(Input::Stop)[..], [Effect::Kill(_, Force::Term)]));
    assert!(!world.state.is_finished(world.now));
    let effects = world.request(GUARDIAN, Request::Start(Box::new(start(2))));
    assert!(matches!(effects[..], [Effect::Send(GUARDIAN, Event::Refused(_))]), "{effects:?}");
    assert_eq!(world.ended(key, Exit::Signal(15)).ended_by, Some(EndedBy::Keeper));
    assert!(world.state.is_finished(world.now));
}

#[test]
fn an_idle_keeper_ends_after_a_minute_without_guardian_jobs_and_results() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    world.ended(key, Exit::Code(0));
    world.input(Input::Disconnected(GUARDIAN));
    world.pass(100 * SECOND);
    assert!(!world.state.is_finished(world.now), "a result is not delivered");
    world.hello(2, 2);
    world.request(2, Request::Ack(key));
    world.pass(100 * SECOND);
    assert!(!world.state.is_finished(world.now), "a guardian is connected");
    world.input(Input::Disconnected(2));
    world.pass(60 * SECOND - 1);
    assert!(!world.state.is_finished(world.now));
    world.pass(1);
    assert!(world.state.is_finished(world.now));
}

proptest! {
    /// Whatever comes in whatever order: no run gets a second process, a collected one has a result at
    /// once, and time never gets stuck.
    #[test]
    fn no_order_of_inputs_makes_a_second_process(script in prop::collection::vec((0..10_u8, 1..4_i64, 0..4_000_000_i64), 1..200)) {
        let mut world = World::greeted();
        let mut spawned = HashSet::new();
        for (what, run_id, wait_us) in script {
            let mut order = start(run_id);
            order.spec.max_runtime = Some(3.0);
            let key = order.key();
            let effects = match what {
                0 | 1 => world.request(GUARDIAN, Request::Start(Box::new(order))),
                2 => world.request(GUARDIAN, terminate(key)),
                3 => world.input(Input::Executing(key)),
                4 => world.input(Input::Exited(key, Exit::Code(0))),
                5 => world.input(Input::Swept(key)),
                6 => world.input(Input::Closed(key)),
                7 => world.request(GUARDIAN, Request::Ack(key)),
                8 => world.hello(GUARDIAN, 1),
                _ => world.pass(wait_us),
            };
            let mut effects = VecDeque::from(effects);
            while let Some(effect) = effects.pop_front() {
                match effect {
                    Effect::Spawn(start) => {
                        prop_assert!(spawned.insert(start.key()), "{:?} was spawned twice", start.key());
                        effects.extend(world.input(Input::Forked(start.key(), 7)));
                    }
                    Effect::Collect(key) => {
                        let recorded = world.input(Input::Collected(key, Box::default()));
                        prop_assert!(matches!(recorded[..], [Effect::Record(_)]), "{:?}", recorded);
                    }
                    Effect::Kill(key, _) => prop_assert!(world.state.live.contains_key(&key)),
                    _ => {}
                }
            }
            prop_assert!(world.state.next_tick_us().is_none_or(|at| at > world.now.boottime_us));
            prop_assert!(world.state.timers.len() <= world.state.live.len());
        }
    }
}
