//! `pause` and `unpause`, up to the guardian.

use crate::support::Play;

/// A job that runs on `web1`, and who runs it.
async fn running() -> (Play, i64, crate::support::Claim) {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('j', null, 'true', retries => 1)").await;
    let guardian = play.guardian("web1", 1).await;
    play.run_now("j").await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    (play, guardian, claim)
}

#[tokio::test]
async fn what_has_not_started_cannot_be_paused_and_the_audit_log_says_so() {
    let (play, guardian, claim) = running().await;
    let pause = format!("select sisyphus.pause({})", claim.run_id);
    assert!(!play.value::<bool>(&pause, &[]).await, "it is claimed, nothing runs yet");
    let why =
        "select after ->> 'why' from sisyphus.audit_log where action = 'pause' order by at desc limit 1";
    assert_eq!(play.value::<String>(why, &[]).await, "the run had not started");
    play.start(guardian, &claim).await;
    assert!(play.value::<bool>(&pause, &[]).await);
    // It ends before anybody hears of the pause.
    play.finish(guardian, &claim, 1).await;
    play.tick_at("07:00:01").await;
    assert!(play.lines("select action from sisyphus.request").await.is_empty());
    assert_eq!(play.value::<String>(why, &[]).await, "the run was not running");
    let paused = "select count(*) from sisyphus.run where paused_at is not null";
    assert_eq!(play.value::<i64>(paused, &[]).await, 0, "its next attempt is not paused");
}

#[tokio::test]
async fn the_holder_is_told_in_order_and_again_until_it_has_acknowledged() {
    let (play, guardian, claim) = running().await;
    play.start(guardian, &claim).await;
    for call in ["pause", "pause", "unpause", "pause"] {
        play.exec(&format!("select sisyphus.{call}({})", claim.run_id)).await;
    }
    let told = async || {
        let (_, requests) = play.claim_holding(guardian, 0, Some(&[claim.claim_no])).await;
        requests.iter().map(|request| request.action.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told().await, ["pause", "pause", "unpause", "pause"]);
    assert_eq!(told().await, ["pause", "pause", "unpause", "pause"], "a reply can be lost");
    let paused = "select paused_at::text from sisyphus.running";
    assert_eq!(play.value::<String>(paused, &[]).await, "2026-03-02 07:00:00+00");
    // Who is to end is not paused any more.
    play.exec(&format!("select sisyphus.terminate({0}); select sisyphus.unpause({0})", claim.run_id)).await;
    assert_eq!(told().await.last().unwrap(), "terminate");
    let why = "select after ->> 'why' from sisyphus.audit_log where after ->> 'changed' = 'false'";
    assert_eq!(play.value::<String>(why, &[]).await, "the run was ending");
    assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
    let left = "select count(*) from sisyphus.request";
    play.tick_at("07:00:01").await;
    assert_eq!(play.value::<i64>(left, &[]).await, 0);
}
