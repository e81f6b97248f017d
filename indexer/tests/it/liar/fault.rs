//! Lies, limits and failures, in the backfill and at the tip.

use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::{Faults, Replay};
use auspex_indexer::source::rpc::RpcEndpoint;
use auspex_indexer::source::{Endpoint, Fault};
use auspex_indexer::verify::Level;

use super::play::{FINALIZED_LAG, LEVELS, Last, PAST, Play, grow, past};

/// Blocks that come one by one while the node lies.
const LIVE: u64 = 12;
/// Steps that the follower makes per new block meanwhile.
const STEPS_PER_BLOCK: usize = 6;

fn faults() -> Vec<(&'static str, Faults)> {
    let honest = Faults::default;
    vec![
        ("clean", honest()),
        ("omitted logs", Faults { omit_every: Some(13), ..honest() }),
        ("empty logs", Faults { empty: true, ..honest() }),
        ("empty logs once per block", Faults { empty_first: true, ..honest() }),
        ("a stale node every second time", Faults { behind: 5, ..honest() }),
        ("duplicate logs", Faults { duplicate: true, ..honest() }),
        ("a removed log", Faults { removed: true, ..honest() }),
        ("a foreign block hash", Faults { foreign_hash: true, ..honest() }),
        ("a new block null twice", Faults { null_first: 2, ..honest() }),
        ("answers cut without an error", Faults { cut_logs: Some(50), ..honest() }),
        ("a range limit in QuickNode's words", Faults { range_max: Some(7), ..honest() }),
        ("a result limit in Alchemy's words", Faults { logs_max: Some(30), ..honest() }),
        ("HTTP 429 on every fifth request", Faults { refuse_every: Some(5), ..honest() }),
        ("a page on every fifth request", Faults { page_every: Some(5), ..honest() }),
        ("another chain id", Faults { chain_id: Some(424_242), ..honest() }),
    ]
}

#[tokio::test]
async fn what_is_backfilled_from_a_lying_node_is_right_or_not_there() {
    let database = TestDatabase::create().await.expect("create a database");
    let branch = past(Last::Numbered);
    for level in LEVELS {
        for (name, faults) in faults() {
            let name = format!("{name}, backfill, {level:?}");
            let mut play = Play::new(&database, &branch, level).await;
            play.node.set_faults(faults.clone());
            play.steps(40).await;
            // At level `linked` a number that is missing shows at the next number, which may still be to come.
            if level == Level::Full || (faults.omit_every, faults.cut_logs) == (None, None) {
                play.assert_prefix_of(&branch, &name).await;
            }
            play.assert_follows(&branch, &name).await;
        }
    }
}

#[tokio::test]
async fn what_is_followed_from_a_lying_node_is_right_or_not_there() {
    let database = TestDatabase::create().await.expect("create a database");
    for level in LEVELS {
        for (name, faults) in faults() {
            let name = format!("{name}, live, {level:?}");
            let mut branch = past(Last::Numbered);
            let mut play = Play::new(&database, &branch, level).await;
            play.assert_follows(&branch, &name).await;
            play.node.set_faults(faults);
            for _ in 0..LIVE {
                let height = branch.head() + 1;
                grow(&mut branch, height, Last::Numbered);
                play.node.switch(branch.clone(), height);
                play.steps(STEPS_PER_BLOCK).await;
            }
            // What was left out last is told by the next event's number.
            let height = branch.head() + 1;
            grow(&mut branch, height, Last::Numbered);
            play.node.switch(branch.clone(), height);
            play.assert_follows(&branch, &name).await;
        }
    }
}

/// What a node finds too large is asked for in smaller parts, until it answers: nobody has to heal it.
#[tokio::test]
async fn a_nodes_limits_are_kept_to() {
    let database = TestDatabase::create().await.expect("create a database");
    let branch = past(Last::Numbered);
    let limits = [
        ("calls of one request", Faults { calls_max: Some(7), ..Faults::default() }),
        (
            "a range limit in unknown words",
            Faults { range_max_unsaid: Some(30), ..Faults::default() },
        ),
        ("no requests of several calls", Faults { calls_max: Some(1), ..Faults::default() }),
    ];
    for level in LEVELS {
        for (name, limit) in &limits {
            let mut play = Play::new(&database, &branch, level).await;
            play.node.set_faults(limit.clone());
            play.steps(100).await;
            assert_eq!(play.tip(), Some(PAST), "{name}, {level:?}");
            play.assert_prefix_of(&branch, name).await;
        }
    }
}

/// A page in place of an answer says nothing of the chain, so that nothing that it says is wrong.
#[tokio::test]
async fn a_body_that_is_not_json_is_no_lie() {
    let branch = past(Last::Numbered);
    let node = Replay::start(1, branch.clone(), PAST, (10, 20)).await.expect("start a node");
    let endpoint = RpcEndpoint::new(&node.url().parse().expect("a URL")).expect("an endpoint");
    node.set_faults(Faults { page_every: Some(1), ..Faults::default() });
    let fault = endpoint.chain_id().await.expect_err("a page");
    assert!(matches!(fault, Fault::Unavailable(_)), "{fault}");
    let fault = endpoint.headers(1, 3).await.expect_err("a page");
    assert!(matches!(fault, Fault::Unavailable(_)), "{fault}");
}

/// What level `linked` is documented not to see: a log that nothing numbers, left out of a block whose other logs are given,
/// without a second endpoint and outside the sample. Level `full` sees it.
#[tokio::test]
async fn only_full_verification_sees_an_unnumbered_log_left_out_of_a_block_with_others() {
    let database = TestDatabase::create().await.expect("create a database");
    let branch = past(Last::Transfer);
    let omitted = (1..=PAST - FINALIZED_LAG).filter(|number| number.is_multiple_of(13)).count();
    for level in LEVELS {
        let mut play = Play::new(&database, &branch, level).await;
        play.node.set_faults(Faults { omit_every: Some(13), ..Faults::default() });
        play.steps(40).await;
        let tip = PAST as usize;
        let missing = 4 * tip - play.stored().await.len();
        match level {
            Level::Full => assert_eq!(missing, 0),
            Level::Linked => assert!(omitted <= missing, "{missing} are missing"),
        }
    }
}

/// A query that is never answered ends at the time limit of a request, which is long.
#[tokio::test]
async fn a_log_query_that_hangs_is_given_up() {
    if std::env::var("AUSPEX_TEST_PROFILE").as_deref() != Ok("long") {
        return;
    }
    let database = TestDatabase::create().await.expect("create a database");
    let branch = past(Last::Numbered);
    let mut play = Play::new(&database, &branch, Level::Linked).await;
    play.node.set_faults(Faults { hang_logs: 1, ..Faults::default() });
    play.steps(3).await;
    play.assert_follows(&branch, "a hanging query").await;
}
