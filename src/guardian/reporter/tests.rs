use tokio::sync::watch;
use uuid::Uuid;

use super::*;
use crate::{
    config::Connection,
    db::Sessions,
    keeper::protocol::{RunKey, Time},
};

#[test]
fn each_list_of_the_keeper_tells_what_runs_and_none_is_told_twice() {
    let nowhere = Connection::resolve(Some("postgresql://nobody@localhost/none"), &|_| None).unwrap();
    let pool = Pool::new(Sessions::new(watch::channel(nowhere).1, "work", "web1"));
    let inputs = mpsc::unbounded_channel().0;
    let (mut reporter, _handle) = Reporter::new(pool, Clock::default(), String::new(), inputs);
    for _ in 0..3 {
        reporter.obey(Command::Guardian(None));
        for run_id in 1..=2 {
            let key = RunKey { installation: Uuid::nil(), run_id, claim_no: run_id };
            let started = Time { boottime_us: 0, realtime_us: 0, boot_id: String::new() };
            reporter.obey(Command::Started(Started { key, pid: 1, started }));
        }
    }
    assert_eq!(reporter.starts.ready(), 2);
}
