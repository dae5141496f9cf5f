//! How a run is brought to an end, and what is left of it.

use super::*;

#[test]
fn terminate_is_term_then_grace_then_kill_again_and_again() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    let effects = world.request(GUARDIAN, terminate(key));
    assert!(matches!(effects[..], [Effect::Kill(_, Force::Term)]), "{effects:?}");
    assert!(world.request(GUARDIAN, terminate(key)).is_empty(), "asking twice does not prolong the grace");
    assert!(world.pass(10 * SECOND - 1).is_empty());
    assert!(matches!(world.pass(1)[..], [Effect::Kill(_, Force::Kill)]));
    assert!(matches!(world.pass(SECOND)[..], [Effect::Kill(_, Force::Kill)]));
    let result = world.ended(key, Exit::Signal(9));
    assert_eq!((result.ended_by, result.signal), (Some(EndedBy::Terminate), Some(9)));
    assert_eq!(result.reason.as_deref(), Some("by hand"));
}

#[test]
fn no_grace_is_kill_at_once() {
    let mut world = World::greeted();
    let mut order = start(1);
    order.spec.grace = 0.0;
    let key = world.running(order);
    assert!(matches!(world.request(GUARDIAN, terminate(key))[..], [Effect::Kill(_, Force::Kill)]));
}

#[test]
fn the_time_limit_needs_no_guardian() {
    let mut world = World::greeted();
    let mut order = start(1);
    order.spec.max_runtime = Some(2.5);
    let key = world.running(order);
    world.input(Input::Disconnected(GUARDIAN));
    assert_eq!(world.state.next_tick_us(), Some(world.now.boottime_us + 2_500_000));
    assert!(matches!(world.pass(2_500_000)[..], [Effect::Kill(_, Force::Term)]));
    let result = world.ended(key, Exit::Code(0));
    assert_eq!((result.ended_by, result.exit_code), (Some(EndedBy::Timeout), Some(0)));
    assert_eq!(result.reason.as_deref(), Some("ran longer than max_runtime (2.5 s)"));
}

#[test]
fn a_fence_kills_before_the_deadline_unless_it_moves() {
    let mut world = World::greeted();
    let mut order = start(1);
    order.deadline_boottime_us = Some(world.now.boottime_us + 20 * SECOND);
    let key = world.running(order);
    let boottime_us = world.now.boottime_us + 30 * SECOND;
    world.request(GUARDIAN, Request::Deadline(Deadline { key, boottime_us }));
    assert!(world.pass(15 * SECOND).is_empty(), "the first deadline has been moved");
    assert!(matches!(world.pass(5 * SECOND)[..], [Effect::Kill(_, Force::Term)]));
    assert!(matches!(world.pass(10 * SECOND)[..], [Effect::Kill(_, Force::Kill)]));
    assert_eq!(world.ended(key, Exit::Signal(9)).ended_by, Some(EndedBy::Fence));
}

#[test]
fn a_fence_that_never_moves_kills_too() {
    let mut world = World::greeted();
    let mut order = start(1);
    order.deadline_boottime_us = Some(world.now.boottime_us + 20 * SECOND);
    let key = world.running(order);
    let effects = world.pass(10 * SECOND);
    assert!(matches!(effects[..], [Effect::Kill(it, Force::Term)] if it == key), "{effects:?}");
}

#[test]
fn a_terminated_run_is_killed_at_its_fence_even_within_the_grace() {
    let mut world = World::greeted();
    let mut order = start(1);
    order.deadline_boottime_us = Some(world.now.boottime_us + 12 * SECOND);
    let key = world.running(order);
    world.pass(SECOND);
    world.request(GUARDIAN, terminate(key));
    world.request(GUARDIAN, Request::Deadline(Deadline { key, boottime_us: world.now.boottime_us + SECOND }));
    assert!(matches!(world.pass(SECOND)[..], [Effect::Kill(_, Force::Kill)]));
}

#[test]
fn leftovers_that_are_left_hold_the_pipes_for_a_moment_only() {
    let mut world = World::greeted();
    let mut order = start(1);
    order.spec.leftovers = Leftovers::Leave;
    let key = world.running(order);
    assert!(world.input(Input::Exited(key, Exit::Code(0))).is_empty());
    assert!(world.pass(249_999).is_empty());
    assert!(matches!(world.pass(1)[..], [Effect::Collect(it)] if it == key));
    assert!(world.pass(SECOND).is_empty());
}

#[test]
fn leftovers_that_cannot_be_killed_do_not_hold_the_result_for_ever() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    assert!(matches!(world.input(Input::Exited(key, Exit::Code(0)))[..], [Effect::Sweep(_, Force::Kill)]));
    assert!(world.pass(2 * SECOND).is_empty());
    assert!(matches!(world.pass(250_000)[..], [Effect::Collect(it)] if it == key));
}

#[test]
fn those_that_a_shell_leaves_at_its_term_have_the_rest_of_the_grace() {
    let mut world = World::greeted();
    let key = world.running(start(1));
    world.request(GUARDIAN, terminate(key));
    world.pass(SECOND);
    let effects = world.input(Input::Exited(key, Exit::Signal(15)));
    assert!(matches!(effects[..], [Effect::Sweep(_, Force::Term)]), "{effects:?}");
    assert!(world.pass(9 * SECOND - 1).is_empty());
    assert!(matches!(world.pass(1)[..], [Effect::Sweep(_, Force::Kill)]));
    world.input(Input::Closed(key));
    assert!(matches!(world.input(Input::Swept(key))[..], [Effect::Collect(_)]));
}

#[test]
fn a_pause_stops_the_time_limit_and_not_the_fence() {
    let signal = |key, action| Request::Signal(Signal { key, action, reason: "by hand".into() });
    let mut world = World::greeted();
    let mut order = start(1);
    order.spec.max_runtime = Some(100.0);
    let key = world.running(order);
    world.pass(60 * SECOND);
    let effects = world.request(GUARDIAN, signal(key, Action::Pause));
    assert!(matches!(effects[..], [Effect::Pause(it)] if it == key), "{effects:?}");
    assert!(world.request(GUARDIAN, signal(key, Action::Pause)).is_empty(), "it is");
    assert!(world.pass(1000 * SECOND).is_empty());
    let effects = world.request(GUARDIAN, signal(key, Action::Unpause));
    assert!(matches!(effects[..], [Effect::Unpause(it)] if it == key), "{effects:?}");
    assert!(world.request(GUARDIAN, signal(key, Action::Unpause)).is_empty(), "it does");
    assert!(world.pass(40 * SECOND - 1).is_empty(), "it has run for less than 100 s");
    assert!(matches!(world.pass(1)[..], [Effect::Kill(_, Force::Term)]));
    assert!(world.request(GUARDIAN, signal(key, Action::Pause)).is_empty(), "it is ending");

    let mut world = World::greeted();
    let mut order = start(2);
    order.deadline_boottime_us = Some(world.now.boottime_us + 30 * SECOND);
    let key = world.running(order);
    world.request(GUARDIAN, signal(key, Action::Pause));
    let effects = world.pass(20 * SECOND);
    assert!(matches!(effects[..], [Effect::Kill(it, Force::Term)] if it == key), "{effects:?}");
}

#[test]
fn a_process_that_hangs_before_its_program_has_failed_even_if_it_never_dies() {
    let mut world = World::greeted();
    let key = start(1).key();
    world.request(GUARDIAN, Request::Start(Box::new(start(1))));
    world.input(Input::Forked(key, 100));
    let effects = world.pass(30 * SECOND);
    assert!(matches!(effects[..], [Effect::GiveUp(it)] if it == key), "{effects:?}");
    let effects = world.input(Input::NotExecuted(key, Fault::Spawn("it hangs".into())));
    assert!(matches!(effects[..], [Effect::Kill(_, Force::Kill)]), "{effects:?}");
    let effects = world.pass(2 * SECOND);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Abandon(it) if *it == key)), "{effects:?}");
    let effects = world.input(Input::Abandoned(key));
    let [Effect::Record(result)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(
        (result.ended_by, result.pid, result.reason.as_deref()),
        (Some(EndedBy::Spawn), None, Some("it hangs"))
    );
    assert!(world.input(Input::Exited(key, Exit::Signal(9))).is_empty(), "it is forgotten");
}
