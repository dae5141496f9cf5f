//! The lines as they stand on the wire.

use super::*;

#[test]
fn a_start_keeps_the_payload_byte_for_byte() {
    let line = r#"{"start":{"installation":"6b1f5c8e-0d6c-4c0e-9d55-0d8a3f1d7a11","host":"web1","spec":{"job":"a","run_id":1,
        "attempt":1,"claim_no":7,"command":"true","argv":null,"payload":{"n":12345678901234567890.1234567890},"due_us":5,"grace":10}}}"#;
    let Request::Start(start) = serde_json::from_str(line).unwrap() else { panic!("not a start") };
    assert_eq!(start.spec.payload.unwrap().get(), r#"{"n":12345678901234567890.1234567890}"#);
    assert_eq!(start.spec.output_limit, 65536);
}

#[test]
fn a_result_survives_the_line() {
    let time = Time { boottime_us: 1, realtime_us: 2, boot_id: "b".into() };
    let key = RunKey { installation: Uuid::nil(), run_id: 1, claim_no: 2 };
    let sent = Event::Result(Box::new(RunResult {
        key,
        pid: Some(3),
        exit_code: Some(0),
        signal: None,
        ended_by: Some(EndedBy::Timeout),
        reason: None,
        started: Some(time.clone()),
        finished: time,
        stdout: "x".into(),
        stderr: String::new(),
        result: Some(RawValue::from_string("{\"a\":1.00}".into()).unwrap()),
        cpu_user: 0.5,
        cpu_system: 0.0,
        peak_memory: 4096,
    }));
    let line = serde_json::to_string(&sent).unwrap();
    assert!(line.starts_with(r#"{"result":{"installation":"#), "{line}");
    let Event::Result(back) = serde_json::from_str(&line).unwrap() else { panic!("not a result") };
    assert_eq!((back.key, back.result.unwrap().get()), (key, "{\"a\":1.00}"));
}
