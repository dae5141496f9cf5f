//! A file system that does not answer: a FUSE mount that nobody serves.

use serde_json::json;
use sisyphus::keeper::protocol::EndedBy;

use super::{Guardian, Host};
use crate::support::HungDisk;

async fn impatient() -> (Host, Guardian) {
    let mut host = Host::unstarted();
    host.start_keeper_with(&["--cgroup", "none", "--start-timeout", "1"]);
    let guardian = host.guardian(1).await;
    (host, guardian)
}

#[tokio::test]
async fn a_directory_or_program_that_hangs_is_a_failure_and_delays_nobody() {
    let (host, mut guardian) = impatient().await;
    let at = host.root().join("mount");
    let Some(_hung) = HungDisk::mount(&at) else { return };
    let entered = guardian.start(1, json!({"argv": ["true"], "cwd": at})).await;
    let program = at.join("program");
    let executed = guardian.start(2, json!({"argv": [program]})).await;
    // Both hang by now, and others come and go.
    for run_id in 3..20 {
        assert_eq!(guardian.run(run_id, json!({"argv": ["true"]})).await.exit_code, Some(0));
    }
    assert_eq!(guardian.list().await.iter().filter(|held| !held.ended).count(), 2);
    for (key, reason) in [
        (entered, format!("cannot enter {at:?}: the file system does not answer")),
        (executed, format!("cannot start {program:?}: the file system does not answer")),
    ] {
        let result = guardian.result(key).await;
        assert_eq!((result.ended_by, result.started), (Some(EndedBy::Spawn), None));
        assert_eq!(result.reason, Some(reason));
    }
}

#[tokio::test]
async fn a_run_that_hangs_before_its_program_can_be_ended() {
    let mut host = Host::unstarted();
    host.start_keeper_with(&["--cgroup", "none"]);
    let mut guardian = host.guardian(1).await;
    let at = host.root().join("mount");
    let Some(_hung) = HungDisk::mount(&at) else { return };
    let key = guardian.start(1, json!({"argv": ["true"], "cwd": at, "grace": 0.1})).await;
    guardian.list().await;
    guardian.terminate(key, "by hand").await;
    let result = guardian.result(key).await;
    assert_eq!((result.ended_by, result.reason.as_deref()), (Some(EndedBy::Terminate), Some("by hand")));
}
