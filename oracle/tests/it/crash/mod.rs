//! Real processes that die wherever something becomes durable, and go on after a restart as if nothing had happened.
//!
//! A node dies at one point, and its next start is armed with the next one, so that nearly every point is passed while the
//! node recovers from the death before it. `auspex_oracle::failpoint` lists the points.

mod memory;
mod process;
mod random;
mod spy;
mod stage;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;

use auspex_oracle::failpoint::Point;
use auspex_oracle::transaction::custody::resume;
use nix::sys::signal::Signal;

use self::process::played;
use self::stage::Stage;
use crate::scene::node::answering;

/// What every request passes on its way, up to the intent.
const WORK: &[Point] = &[
    Point::IdentityClaimed,
    Point::RequestDiscovered,
    Point::JobClaimed,
    Point::JobReleased,
    Point::JobMoving,
    Point::JobMoved,
    Point::AnswerDerived,
    Point::ResultRecorded,
    Point::ResultSigned,
    Point::AnswerPosted,
    Point::AnswerStored,
    Point::MessageSealed,
    Point::SignatureStored,
    Point::MessageApplying,
    Point::MessageApplied,
    Point::HeartbeatHeard,
    Point::QuorumStored,
    Point::MessagePublished,
    Point::PublicationAcknowledged,
    Point::PublicationNoted,
    Point::MessagePosted,
    Point::PostingNoted,
    Point::MessagesPruned,
    Point::WithdrawalIntended,
];

/// What every delivery passes.
const TRANSACTIONS: &[Point] = &[
    Point::DeliveryIntended,
    Point::CustodyLocked,
    Point::CustodyTaken,
    Point::GasWeighed,
    Point::TransactionSigned,
    Point::NonceAssigned,
    Point::TransactionSent,
    Point::SendingNoted,
    Point::InclusionStoring,
    Point::InclusionStored,
    Point::OutcomeStoring,
    Point::OutcomeStored,
];

const SIGNER: &[Point] = &[
    Point::SignerStarted,
    Point::PromiseDecided,
    Point::PromiseWritten,
    Point::PromiseSynchronised,
    Point::PromiseSigned,
];

const BATCHES: &[Point] = &[Point::BatchFormed];
const REPLACEMENTS: &[Point] =
    &[Point::ReplacementSigned, Point::ReplacementStoring, Point::ReplacementStored];
const FILLERS: &[Point] = &[Point::FillerSigned, Point::FillerStoring, Point::FillerStored];
const ADOPTIONS: &[Point] = &[Point::NoncesAdopting, Point::NoncesAdopted];
const STOPS: &[Point] = &[Point::ManagerStopping, Point::ManagerStopped];
const REFUSALS: &[Point] = &[Point::RefusalStoring, Point::RefusalStored];
/// What happens only to a request that is answered slowly: that it is finalized before it is settled, for one.
const SLOW: &[Point] = &[Point::CursorAdvanced, Point::LeaseRenewed];

#[test]
fn every_point_is_in_a_test() {
    let lists = [
        WORK,
        TRANSACTIONS,
        SIGNER,
        BATCHES,
        REPLACEMENTS,
        FILLERS,
        ADOPTIONS,
        STOPS,
        REFUSALS,
        SLOW,
    ];
    let tested: BTreeSet<&str> = lists.concat().iter().map(|point| point.name()).collect();
    let all: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(tested, all);
}

#[test]
fn a_node_may_die_anywhere_between_a_request_and_its_delivery() {
    if played() {
        return;
    }
    on_stage("crash::a_node_may_die_anywhere_between_a_request_and_its_delivery", async |stage| {
        stage.start_honest().await;
        for point in WORK {
            stage.ask(point.name()).await;
            stage.node_dies_at(*point, true).await;
        }
        for point in SLOW {
            stage.ask("slow").await;
            stage.node_dies_at(*point, true).await;
        }
        stage.recovers().await;
    });
}

/// Twice: the second time in the opposite order, so that each point is also passed while the death at another one is
/// being recovered from.
#[test]
fn a_node_may_die_anywhere_on_the_transaction_path_and_again_while_it_recovers() {
    if played() {
        return;
    }
    on_stage(
        "crash::a_node_may_die_anywhere_on_the_transaction_path_and_again_while_it_recovers",
        async |stage| {
            stage.start_honest().await;
            for point in TRANSACTIONS.iter().chain(TRANSACTIONS.iter().rev()) {
                stage.ask(point.name()).await;
                stage.node_dies_at(*point, true).await;
            }
            stage.recovers().await;
        },
    );
}

#[test]
fn a_node_may_die_in_whatever_the_manager_does_besides_sending() {
    if played() {
        return;
    }
    on_stage("crash::a_node_may_die_in_whatever_the_manager_does_besides_sending", async |stage| {
        stage.start_honest().await;
        batches(stage).await;
        replacements(stage).await;
        for point in ADOPTIONS {
            stage.stop_node();
            stage.use_key_elsewhere().await;
            stage.node_dies_at(*point, true).await;
        }
        stage.recovers().await;
        stage.stop_node();
        for point in FILLERS.iter().chain(FILLERS) {
            stage.sql("update oracle.transmitters set next_nonce = next_nonce + 1").await;
            stage.node_dies_at(*point, true).await;
        }
        stage.recovers().await;
        stage.stop_node();
        stops(stage).await;
    });
}

/// Deliveries that are queued while somebody else has the nonces travel together once they are free.
async fn batches(stage: &mut Stage) {
    for point in BATCHES.iter().chain(BATCHES) {
        stage.stop_node();
        let kept = stage.keep_custody().await;
        stage.ask_together(3).await;
        stage.start_node(Some(*point));
        stage.queued(3).await;
        kept.release().await;
        stage.await_death(*point, true).await;
        stage.recovers().await;
    }
    let carried: i64 =
        sqlx::query_scalar("select count(*) from oracle.intents where carrier is not null")
            .fetch_one(&stage.database.pool())
            .await
            .expect("count");
    assert!(6 <= carried, "{carried} deliveries travelled with others");
}

/// Without blocks, what was sent is offered more gas again and again.
async fn replacements(stage: &mut Stage) {
    for point in REPLACEMENTS.iter().chain(REPLACEMENTS) {
        stage.stop_node();
        let kept = stage.keep_custody().await;
        stage.ask(point.name()).await;
        stage.start_node(Some(*point));
        stage.queued(1).await;
        stage.automine(false).await;
        kept.release().await;
        stage.await_death(*point, false).await;
        // Once more, now that what is to be replaced was sent by the one who died.
        stage.node_dies_at(*point, false).await;
        stage.recovers().await;
    }
}

/// Three deliveries in a row that reverted, as the database would remember them.
async fn stops(stage: &mut Stage) {
    for point in STOPS {
        stage
            .sql(
                "update oracle.intents set state = 'failed', wanted = true where id in (
                    select id from oracle.intents
                    where nonce is not null and kind in ('delivery', 'batch')
                    order by nonce desc limit 3
                 )",
            )
            .await;
        stage.node_dies_at(*point, true).await;
    }
    let stopped: Option<String> = sqlx::query_scalar("select stopped from oracle.transmitters")
        .fetch_one(&stage.database.pool())
        .await
        .expect("a transmitter");
    assert!(stopped.is_some_and(|reason| reason.contains("reverted")));
    let transmitter = stage.operator.transmitter_address();
    resume(&stage.database.pool(), transmitter).await.expect("resumed");
    stage.ask("after the operator has looked").await;
    stage.recovers().await;
}

#[test]
fn a_node_may_die_while_it_refuses_what_another_derived() {
    if played() {
        return;
    }
    on_stage("crash::a_node_may_die_while_it_refuses_what_another_derived", async |stage| {
        let odd = stage.start_other(2, answering(|_| r#"{"text":"odd"}"#.to_owned())).await;
        for point in REFUSALS {
            stage.ask(point.name()).await;
            stage.node_dies_at(*point, false).await;
        }
        stage.start_honest().await;
        stage.recovers().await;
        let refusals: i64 =
            sqlx::query_scalar("select count(*) from oracle.refusals where signer = $1")
                .bind(stage.operator.signer_address().as_slice())
                .fetch_one(&stage.database.pool())
                .await
                .expect("count");
        assert!((1..=2).contains(&refusals), "each is refused once at most: {refusals}");
        odd.stop().await;
    });
}

#[test]
fn a_signer_may_die_wherever_it_promises_something() {
    if played() {
        return;
    }
    on_stage("crash::a_signer_may_die_wherever_it_promises_something", async |stage| {
        stage.start_honest().await;
        stage.start_node(None);
        for point in SIGNER.iter().chain(SIGNER) {
            stage.ask(point.name()).await;
            stage.signer_dies_at(*point).await;
        }
        stage.recovers().await;
    });
}

/// The keys and their password are in the signer's process and nowhere else: a core dump of the node, its log and what it
/// says over HTTP hold none of them.
#[test]
fn a_dump_of_a_node_shows_no_key_and_no_password() {
    if played() {
        return;
    }
    on_stage("crash::a_dump_of_a_node_shows_no_key_and_no_password", async |stage| {
        stage.start_honest().await;
        stage.ask("what is in a node's memory?").await;
        stage.recovers().await;
        let process = stage.node_process();
        let owner = stage.operator.owner.to_string().into_bytes();
        assert!(memory::holds(process, &owner), "the search finds what is there");
        for secret in stage.secrets() {
            assert!(!memory::holds(process, &secret), "a secret is in the node's memory");
        }
    });
}

/// A signer that crashes leaves its keys nowhere: no core dump is written.
#[test]
fn a_crashing_signer_leaves_no_core_dump() {
    if played() {
        return;
    }
    on_stage("crash::a_crashing_signer_leaves_no_core_dump", async |stage| {
        let process = stage.running_signer().await;
        let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).expect("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.expect("a limit").split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "core files are limited to nothing: {words:?}");
        // The files of a process that protects its memory belong to the administrator, whoever runs it.
        let owner = std::fs::metadata(format!("/proc/{process}/mem")).expect("a file").uid();
        assert_eq!(owner, 0);
        let ended = stage.crash_signer();
        assert_eq!(ended.signal(), Some(Signal::SIGABRT as i32));
        assert!(!ended.core_dumped(), "{ended} left a core dump");
    });
}

fn on_stage(test: &'static str, act: impl AsyncFnOnce(&mut Stage)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut stage = Stage::set(test).await;
        act(&mut stage).await;
    });
}
