use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
};
use uuid::Uuid;

use super::{exchange::RETRY_US, *};
use crate::keeper::protocol::Time;

const INSTALLATION: Uuid = Uuid::from_u128(7);

fn at(second: i64) -> Moment {
    Moment { boottime_us: second * 1_000_000, realtime_us: 0 }
}

fn key(run_id: i64) -> RunKey {
    RunKey { installation: INSTALLATION, run_id, claim_no: run_id }
}

fn result(run_id: i64, output: usize) -> Vec<u8> {
    line(RunResult {
        key: key(run_id),
        pid: None,
        exit_code: Some(0),
        signal: None,
        ended_by: None,
        reason: None,
        started: None,
        finished: Time { boottime_us: 0, realtime_us: 0, boot_id: String::new() },
        stdout: "x".repeat(output),
        stderr: String::new(),
        result: None,
        cpu_user: 0.0,
        cpu_system: 0.0,
        peak_memory: 0,
    })
}

fn open(root: &Path, now: Moment) -> Store {
    let lock = OwnedFd::from(File::create(root.join("lock")).unwrap());
    Store::open(root.join("results"), lock, now).unwrap()
}

/// The store speaks to this end instead of a writer.
fn scripted(store: &mut Store) -> UnixStream {
    let (socket, far) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    store.writer.as_mut().unwrap().socket = socket;
    far
}

/// What the store has told, once it has sent it.
fn told(store: &mut Store, far: &mut UnixStream, now: Moment) -> Vec<u8> {
    store.exchange(now);
    let mut frames = Vec::new();
    let _ = far.read_to_end(&mut frames);
    frames
}

fn answer(store: &mut Store, far: &mut UnixStream, now: Moment, answers: &[(i32, u64)]) {
    for (errno, offset) in answers {
        far.write_all(&errno.to_le_bytes()).unwrap();
        far.write_all(&offset.to_le_bytes()).unwrap();
    }
    store.exchange(now);
}

/// A store in whose first segment one result stands that was acknowledged long ago.
fn with_an_old_segment(root: &Path) -> (Store, UnixStream, Moment) {
    let mut store = open(root, at(0));
    let mut far = scripted(&mut store);
    store.append(key(1), result(1, 0));
    told(&mut store, &mut far, at(0));
    answer(&mut store, &mut far, at(0), &[(0, 17)]);
    store.acknowledge(at(0), key(1));
    told(&mut store, &mut far, at(0));
    answer(&mut store, &mut far, at(0), &[(0, 99)]);
    store.current += 1;
    let later = Moment { boottime_us: RETENTION_US, realtime_us: 0 };
    (store, far, later)
}

#[test]
fn a_removal_that_shares_the_fate_of_a_refused_batch_shifts_no_answer() {
    let root = tempfile::tempdir().unwrap();
    let (mut store, mut far, now) = with_an_old_segment(root.path());
    store.append(key(2), result(2, 0));
    store.tend(now);
    told(&mut store, &mut far, now);
    answer(&mut store, &mut far, now, &[(28, 0), (28, 0)]);
    let later = Moment { boottime_us: now.boottime_us + RETRY_US, realtime_us: 0 };
    store.append(key(3), result(3, 0));
    store.tend(later);
    told(&mut store, &mut far, later);
    answer(&mut store, &mut far, later, &[(0, 1000), (0, 2000)]);
    assert_eq!((store.stored[&key(2)].offset, store.stored[&key(3)].offset), (1000, 2000));
    assert!(store.is_durable());
}

#[test]
fn a_removal_is_told_to_the_next_writer() {
    let root = tempfile::tempdir().unwrap();
    let (mut store, mut far, now) = with_an_old_segment(root.path());
    let old = segment::path(&root.path().join("results"), 1);
    fs::write(&old, "").unwrap();
    store.tend(now);
    told(&mut store, &mut far, now);
    store.append(key(2), result(2, 0));
    drop(far);
    until(&mut store, now, Store::is_durable);
    assert!(!old.exists());
    assert_eq!(store.read(key(2)), Some(result(2, 0)));
}

#[test]
fn what_was_acknowledged_while_the_writer_was_at_it_is_cut_as_well_when_the_disk_is_full() {
    let root = tempfile::tempdir().unwrap();
    let mut store = open(root.path(), at(0));
    let mut far = scripted(&mut store);
    store.append(key(1), result(1, 1 << 20));
    assert!(told(&mut store, &mut far, at(0)).len() > 100_000);
    store.acknowledge(at(0), key(1));
    // The rest of the frame.
    while store.wants_to_write() {
        told(&mut store, &mut far, at(0));
    }
    answer(&mut store, &mut far, at(0), &[(28, 0)]);
    store.tend(at(1));
    let again = told(&mut store, &mut far, at(1));
    assert!(again.len() < 8 << 10, "{} bytes", again.len());
}

#[test]
fn a_writer_that_dies_at_once_is_replaced_once_a_second() {
    let root = tempfile::tempdir().unwrap();
    let mut store = open(root.path(), at(0));
    let end = |store: &mut Store, now| {
        let dead = store.writer_pid();
        kill(dead, Signal::SIGKILL).unwrap();
        until(store, now, |store| store.writer_pid() != dead);
    };
    store.append(key(1), result(1, 0));
    end(&mut store, at(5));
    assert!(store.socket().is_some(), "one that had lived is replaced at once");
    end(&mut store, at(5));
    assert!(!store.exchange(at(5)) && store.socket().is_none());
    assert_eq!(store.next_us(), Some(6_000_000));
    assert_eq!(store.read(key(1)), Some(result(1, 0)));
    store.tend(at(6));
    assert!(store.exchange(at(6)));
    until(&mut store, at(6), Store::is_durable);
}

#[test]
fn of_what_is_offered_again_the_newest_is_whole_and_older_outputs_are_cut() {
    let root = tempfile::tempdir().unwrap();
    let mut store = open(root.path(), at(0));
    for run_id in 1..=3 {
        store.append(key(run_id), result(run_id, 100_000));
        until(&mut store, at(0), Store::is_durable);
        store.acknowledge(at(0), key(run_id));
        store.current += 1;
    }
    until(&mut store, at(0), Store::is_durable);
    let offered: Vec<_> = store.retained(250_000).filter_map(|again| again.offer).collect();
    let keys: Vec<_> = offered.iter().map(|(key, _)| key.run_id).collect();
    assert_eq!(keys, [1, 2, 3], "oldest first");
    let cut = &offered[0].1;
    assert!(cut.len() < 4_000, "{} bytes", cut.len());
    let Event::Result(cut) = serde_json::from_slice(cut).unwrap() else { panic!("no result") };
    assert_eq!((cut.exit_code, cut.stdout.contains("xxx")), (Some(0), true));
    assert_eq!(offered[1].1, result(2, 100_000));
    assert_eq!(offered[2].1, result(3, 100_000));
    assert!(store.retained(250_000).all(|again| again.read > 0), "also what is passed over is counted");
}

/// Exchanges with a real writer until this holds.
fn until(store: &mut Store, now: Moment, holds: impl Fn(&Store) -> bool) {
    loop {
        store.exchange(now);
        if holds(store) {
            return;
        }
        let socket = store.socket().expect("there is a writer to wait for");
        let heard = poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::from(30_000_u16));
        assert_eq!(heard, Ok(1), "the writer says nothing");
    }
}
