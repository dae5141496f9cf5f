//! The keeper without a guardian: each result stored, offered and acknowledged.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::Instant,
};

use serde_json::json;
use sisyphus::keeper::protocol::{Event, GuardianHello, PROTOCOL, Request, RunSpec, Start};

use super::{
    Measured, WINDOW,
    support::{cpu, host::Host},
};

pub(crate) fn measure(runs: usize) -> Measured {
    let host = Host::new();
    let mut socket = UnixStream::connect(host.socket()).unwrap();
    let mut events = BufReader::new(socket.try_clone().unwrap()).lines();
    let mut send = |request: &Request| {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        socket.write_all(&line).unwrap();
    };
    send(&Request::Hello(GuardianHello { protocol: PROTOCOL, epoch: 1 }));
    let before = host.used();
    let begun = Instant::now();
    let (mut started, mut ended) = (0, 0);
    while ended < runs {
        while started < runs && started - ended < WINDOW {
            started += 1;
            send(&Request::Start(Box::new(order(started as i64))));
        }
        let line = events.next().expect("the keeper has hung up").unwrap();
        if let Event::Result(result) = serde_json::from_str(&line).unwrap() {
            assert_eq!(result.exit_code, Some(0), "{result:?}");
            ended += 1;
            send(&Request::Ack(result.key));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    Measured { seconds, used: cpu::between(&before, &host.used()) }
}

fn order(run_id: i64) -> Start {
    let spec: RunSpec = serde_json::from_value(json!({
        "job": "bench", "run_id": run_id, "attempt": 1, "claim_no": run_id, "argv": ["/bin/true"],
        "due_us": 0, "grace": 1.0
    }))
    .unwrap();
    let installation = uuid::Uuid::nil();
    Start {
        installation,
        host: "bench".to_owned(),
        spec,
        database: None,
        deadline_boottime_us: None,
        expires_boottime_us: None,
    }
}
