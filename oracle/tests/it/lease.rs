//! Leases on a real database: two workers, one job, and a worker that wakes up too late.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use alloy::sol_types::Eip712Domain;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::job::found::{Discovered, Found, discover_all};
use auspex_oracle::job::plan::State;
use auspex_oracle::job::store::{
    Claim, FencedError, become_state, claim, delivered_by, release, renew, wake, wake_delivered,
};
use auspex_oracle::job::summary::counts;
use auspex_oracle::job::terms::Terms;
use auspex_oracle::quorum::store::{Signing, record, sign};
use auspex_protocol::bindings::IRequestEscrow::{Offer, OperatorSet, Request};
use auspex_protocol::document::{OutcomeDocument, ResultDocument};
use auspex_protocol::terms::{
    escrow_domain, input_hash, offer_hash, operator_set_hash, request_id,
};
use sqlx::PgPool;

const LEASE: Duration = Duration::from_secs(30);

pub(crate) fn domain() -> Eip712Domain {
    escrow_domain(31337, Address::repeat_byte(3))
}

/// Terms of a request that fit together; `salt` makes them differ.
pub(crate) fn terms(salt: u8, deadline: u64, signers: Vec<Address>) -> Terms {
    let offer = Offer { price: 5, ..Offer::default() };
    let operator_set = OperatorSet { setId: 1, epoch: 1, threshold: 1, signers };
    let input = b"why?".to_vec();
    let request = Request {
        maxAmount: 5,
        offerHash: offer_hash(&offer),
        operatorSetHash: operator_set_hash(&operator_set),
        inputHash: input_hash(&input),
        salt: B256::repeat_byte(salt),
        deadline: deadline.to_string().parse().expect("a deadline"),
        ..Request::default()
    };
    Terms { request_id: request_id(&domain(), &request), request, offer, operator_set, input }
}

fn result(terms: &Terms, output: u8) -> ResultDocument {
    ResultDocument {
        request_id: terms.request_id,
        outcome: OutcomeDocument::Answered,
        output_hash: B256::repeat_byte(output),
        trace_root: B256::ZERO,
        retrieval_root: B256::ZERO,
        model_hash: B256::ZERO,
        amount: 5,
        valid_until: terms.deadline(),
    }
}

/// Makes a job of one request.
pub(crate) async fn discover(
    pool: &PgPool,
    terms: &Terms,
    sequence: u64,
    seen_block: u64,
) -> anyhow::Result<Found> {
    let discovered = Discovered { terms: terms.clone(), sequence, seen_block };
    let found = discover_all(pool, &[discovered]).await?;
    Ok(found.first().map_or(Found::Known, |(_, found)| *found))
}

async fn claimed(database: &TestDatabase, worker: &str, lease: Duration) -> Option<Claim> {
    claim(&database.pool(), &domain(), worker, lease, true).await.expect("claim")
}

#[tokio::test]
async fn a_request_becomes_one_job_and_the_most_urgent_is_claimed_first() {
    let database = TestDatabase::create().await.expect("a database");
    let late = terms(1, 900, vec![Address::repeat_byte(1)]);
    let soon = terms(2, 800, vec![Address::repeat_byte(1)]);
    for terms in [&late, &soon] {
        assert_eq!(discover(&database.pool(), terms, 1, 1).await.expect("new"), Found::New);
        assert_eq!(discover(&database.pool(), terms, 1, 1).await.expect("known"), Found::Known);
    }
    let first = claimed(&database, "a", LEASE).await.expect("a job");
    assert_eq!(first.terms, soon);
    let second = claimed(&database, "b", LEASE).await.expect("a job");
    assert_eq!(second.terms, late);
    assert!(claimed(&database, "c", LEASE).await.is_none());
}

#[tokio::test]
async fn what_waits_for_the_chain_is_claimed_when_it_is_due_and_in_its_turn() {
    let database = TestDatabase::create().await.expect("a database");
    let pool = &database.pool();
    let long = Duration::from_secs(25);
    for (salt, deadline) in [(1, 700), (2, 800), (3, 900)] {
        let terms = terms(salt, deadline, vec![Address::repeat_byte(1)]);
        discover(pool, &terms, u64::from(salt), 1).await.expect("new");
    }
    // The first two are with the chain; one of them is due.
    for wait in [long, Duration::ZERO] {
        let job = claimed(&database, "a", LEASE).await.expect("a job");
        become_state(pool, &job.lease, State::Delivering, "sent", wait).await.expect("moved");
        if wait == long {
            assert_eq!(job.terms.deadline(), 700);
        }
    }
    let due = claimed(&database, "a", LEASE).await.expect("the one that is due");
    assert_eq!((due.state, due.terms.deadline()), (State::Delivering, 800));
    let new = claimed(&database, "a", LEASE).await.expect("a new one");
    assert_eq!((new.state, new.terms.deadline()), (State::Queued, 900));
    assert!(claimed(&database, "a", LEASE).await.is_none());
    // A time that nobody sets was set before the clock went back.
    sqlx::query("update oracle.jobs set due_at = now() + interval '1 day' where deadline = 700")
        .execute(pool)
        .await
        .expect("far ahead");
    let ahead = claimed(&database, "a", LEASE).await.expect("one that is long due");
    assert_eq!(ahead.terms.deadline(), 700);
}

#[tokio::test]
async fn a_worker_that_begins_nothing_finds_what_was_begun() {
    let database = TestDatabase::create().await.expect("a database");
    let pool = &database.pool();
    let ours = Address::repeat_byte(1);
    for (salt, deadline) in [(1, 700), (2, 800)] {
        discover(pool, &terms(salt, deadline, vec![ours]), u64::from(salt), 1).await.expect("new");
    }
    let begun = async || claim(pool, &domain(), "a", LEASE, false).await.expect("claim");
    assert!(begun().await.is_none(), "nothing was begun");
    let later = terms(2, 800, vec![ours]);
    sqlx::query("update oracle.jobs set state = 'signed' where request_id = $1")
        .bind(later.request_id.as_slice())
        .execute(pool)
        .await
        .expect("begun");
    let job = begun().await.expect("the one that was begun");
    assert_eq!((job.state, job.terms), (State::Signed, later));
    assert!(begun().await.is_none());
    assert_eq!(claimed(&database, "b", LEASE).await.expect("a job").state, State::Queued);
}

#[tokio::test]
async fn requests_that_are_found_together_are_told_apart() {
    let database = TestDatabase::create().await.expect("a database");
    let pool = &database.pool();
    let discovered = |salt: u8, seen_block: u64| Discovered {
        terms: terms(salt, 900, vec![Address::repeat_byte(1)]),
        sequence: u64::from(salt),
        seen_block,
    };
    let found = discover_all(pool, &[discovered(1, 1), discovered(2, 1)]).await.expect("stored");
    assert_eq!(found.iter().map(|(_, found)| *found).collect::<Vec<_>>(), [Found::New; 2]);
    let again = [discovered(1, 1), discovered(2, 5), discovered(3, 5)];
    let found: BTreeMap<_, _> =
        discover_all(pool, &again).await.expect("stored").into_iter().collect();
    assert_eq!(found.get(&again[0].terms.request_id), None);
    assert_eq!(found.get(&again[1].terms.request_id), Some(&Found::Returned));
    assert_eq!(found.get(&again[2].terms.request_id), Some(&Found::New));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_share_many_jobs_without_sharing_one() {
    let database = TestDatabase::create().await.expect("a database");
    for salt in 0..40 {
        let terms = terms(salt, 900, vec![Address::repeat_byte(1)]);
        discover(&database.pool(), &terms, u64::from(salt), 1).await.expect("new");
    }
    let workers = (0..8).map(|worker| {
        let pool = database.pool();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            let name = format!("worker {worker}");
            while let Some(claim) =
                claim(&pool, &domain(), &name, LEASE, true).await.expect("claim")
            {
                mine.push(claim.lease.request_id);
            }
            mine
        })
    });
    let mut all = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        all.extend(worker.await.expect("no panic"));
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 40);
}

/// Two workers claim at nearly the same time: whose statement began first may see the lease of the one that began a moment
/// later, and its end is further ahead than any lease that it could set itself.
#[tokio::test]
async fn a_lease_that_began_a_moment_later_is_kept() {
    let database = TestDatabase::create().await.expect("a database");
    let wanted = terms(1, 1_000, vec![Address::ZERO]);
    discover(&database.pool(), &wanted, 1, 7).await.expect("discover");
    let first = claimed(&database, "first", LEASE).await.expect("a job");
    sqlx::query("update oracle.jobs set leased_until = now() + make_interval(secs => $1)")
        .bind((LEASE + Duration::from_secs(5)).as_secs_f64())
        .execute(&database.pool())
        .await
        .expect("move the lease");
    assert!(claimed(&database, "second", LEASE).await.is_none());
    renew(&database.pool(), &first.lease, LEASE).await.expect("still leased");
}

#[tokio::test]
async fn a_zombie_can_write_nothing() {
    let database = TestDatabase::create().await.expect("a database");
    let pool = &database.pool();
    let terms = terms(1, 900, vec![Address::repeat_byte(1)]);
    discover(pool, &terms, 1, 1).await.expect("new");
    let zombie = claimed(&database, "zombie", Duration::ZERO).await.expect("a job");
    let heir = claimed(&database, "heir", LEASE).await.expect("the lease ran out");
    assert!(heir.lease.epoch > zombie.lease.epoch);

    let lost = |result: Result<(), FencedError>| matches!(result, Err(FencedError::Lost));
    assert!(lost(renew(pool, &zombie.lease, LEASE).await));
    assert!(lost(release(pool, &zombie.lease, LEASE, 1).await));
    assert!(lost(become_state(pool, &zombie.lease, State::Declined, "no", Duration::ZERO).await));
    let digest = B256::repeat_byte(7);
    let recorded = record(pool, &zombie.lease, digest, &result(&terms, 7), Some("{}")).await;
    assert!(matches!(recorded.expect_err("fenced").downcast_ref(), Some(FencedError::Lost)));
    let signature = vec![1; 65].into();
    let signer = Address::repeat_byte(1);
    let signing =
        Signing { signer, digest, signature: &signature, messages: &[], answer_stored: false };
    assert!(sign(pool, &zombie.lease, &signing).await.is_err());

    let results: i64 = sqlx::query_scalar("select count(*) from oracle.results")
        .fetch_one(pool)
        .await
        .expect("count");
    assert_eq!(results, 0);
    renew(pool, &heir.lease, LEASE).await.expect("the heir's lease holds");
    assert_eq!(counts(pool).await.expect("counts"), [("queued".to_owned(), 1)]);
}

#[tokio::test]
async fn the_first_recorded_result_is_the_only_one() {
    let database = TestDatabase::create().await.expect("a database");
    let pool = &database.pool();
    let terms = terms(1, 900, vec![Address::repeat_byte(1)]);
    discover(pool, &terms, 1, 1).await.expect("new");
    let job = claimed(&database, "a", LEASE).await.expect("a job");
    let first = B256::repeat_byte(7);
    record(pool, &job.lease, first, &result(&terms, 7), Some("{}")).await.expect("recorded");
    let kept = record(pool, &job.lease, B256::repeat_byte(8), &result(&terms, 8), None)
        .await
        .expect("the one on record");
    assert_eq!((kept.digest, kept.answer.as_deref()), (first, Some("{}")));

    for statement in [
        "update oracle.results set digest = decode(repeat('08', 32), 'hex')",
        "update oracle.results set answer = 'other'",
        "delete from oracle.results",
    ] {
        let error = sqlx::query(statement).execute(pool).await.expect_err("refused");
        let constraint = error.as_database_error().and_then(|error| error.constraint());
        assert_eq!(constraint, Some("results_are_for_ever"), "{statement}");
    }
}

#[tokio::test]
async fn a_bell_that_rings_during_a_step_is_not_slept_through() {
    let database = TestDatabase::create().await.expect("a database");
    let pool = &database.pool();
    let terms = terms(1, 900, vec![Address::repeat_byte(1)]);
    discover(pool, &terms, 1, 1).await.expect("new");
    let long = Duration::from_secs(25);

    let job = claimed(&database, "a", LEASE).await.expect("a job");
    release(pool, &job.lease, long, 0).await.expect("released");
    assert!(claimed(&database, "a", LEASE).await.is_none(), "it sleeps");
    let mut connection = pool.acquire().await.expect("a connection");
    wake(&mut connection, terms.request_id).await.expect("rung");
    let job = claimed(&database, "a", LEASE).await.expect("woken");

    wake(&mut connection, terms.request_id).await.expect("rung during the step");
    release(pool, &job.lease, long, 0).await.expect("released");
    claimed(&database, "a", LEASE).await.expect("not slept through");
}

#[tokio::test]
async fn a_safe_head_that_comes_during_a_look_is_not_slept_through() {
    let database = TestDatabase::create().await.expect("a database");
    let pool = &database.pool();
    let terms = terms(1, 900, vec![Address::repeat_byte(1)]);
    discover(pool, &terms, 1, 1).await.expect("new");
    let job = claimed(&database, "a", LEASE).await.expect("a job");
    delivered_by(pool, &job.lease, 5).await.expect("noted");
    become_state(pool, &job.lease, State::Delivered, "seen", Duration::ZERO).await.expect("moved");
    let job = claimed(&database, "a", LEASE).await.expect("looked at");
    assert_eq!(wake_delivered(pool, 4).await.expect("asked"), 0, "not safe yet");
    assert_eq!(wake_delivered(pool, 5).await.expect("asked"), 1);
    release(pool, &job.lease, Duration::from_secs(25), 0).await.expect("released");
    claimed(&database, "a", LEASE).await.expect("not slept through");
}

#[tokio::test]
async fn a_dropped_job_comes_back_with_its_result_and_ended_ones_stay_ended() {
    let database = TestDatabase::create().await.expect("a database");
    let pool = &database.pool();
    let terms = terms(1, 900, vec![Address::repeat_byte(1)]);
    discover(pool, &terms, 1, 1).await.expect("new");
    let job = claimed(&database, "a", LEASE).await.expect("a job");
    become_state(pool, &job.lease, State::Dropped, "reorg", Duration::ZERO).await.expect("dropped");
    assert!(claimed(&database, "a", LEASE).await.is_none());
    assert_eq!(discover(pool, &terms, 1, 2).await.expect("back"), Found::Returned);
    let job = claimed(&database, "a", LEASE).await.expect("back to work");
    assert_eq!(job.state, State::Queued);
    become_state(pool, &job.lease, State::Closed, "refunded", Duration::ZERO)
        .await
        .expect("closed");
    discover(pool, &terms, 1, 3).await.expect("seen again");
    assert!(claimed(&database, "a", LEASE).await.is_none());
}
