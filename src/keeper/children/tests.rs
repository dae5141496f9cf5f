use std::{fs::File, io::Write, os::fd::OwnedFd};

use nix::unistd::{Pid, pipe};
use serde_json::json;

use super::*;

fn end_of_a_pipe() -> OwnedFd {
    let (end, other) = pipe().unwrap();
    // Were it watched, it would be heard of.
    File::from(other).write_all(b"x").unwrap();
    end
}

#[test]
fn a_process_that_cannot_be_watched_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let mut directories = RunDirectories::new(root.path().to_owned(), Uuid::nil());
    let start: Start = serde_json::from_value(json!({
        "installation": Uuid::nil(), "host": "web1",
        "spec": {"job": "a", "run_id": 1, "attempt": 1, "claim_no": 1, "due_us": 0, "grace": 1.0, "argv": ["true"]},
    }))
    .unwrap();
    let room = Room { directory: directories.make(start.key(), None, true).unwrap(), group: None };
    let mut poll = Poll::new().unwrap();
    let forked = Forked {
        pid: Pid::this(),
        pidfd: end_of_a_pipe(),
        stdout: end_of_a_pipe(),
        // A plain file is nothing for an epoll set.
        stderr: tempfile::tempfile().unwrap().into(),
        status: end_of_a_pipe(),
        sheet: None,
    };
    let (errno, room) = Child::watch(&mut poll, &start, forked, Names::default(), room).unwrap_err();
    assert_eq!(errno, Errno::EPERM);
    assert!(poll.is_empty());
    room.directory.remove();
}
