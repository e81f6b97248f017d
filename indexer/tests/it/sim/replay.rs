//! The same seeds on real PostgreSQL, compared with the in-memory store row by row.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use auspex_devnet::postgres::TestDatabase;
use auspex_indexer::follow::{Follower, Outcome};
use auspex_indexer::project::row::{Kind, Row};
use auspex_indexer::store::postgres::PgStore;
use rand::Rng;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use super::memory::{MemoryStore, Version};
use super::node::{SimEndpoint, World};
use super::{EVENTS, Time, create, follower, happen, heal, policy, until_idle};

/// Each seed is a chain of its own in one database.
const SEEDS: u64 = 200;

/// About as long as a step takes that writes something.
const CRASH_MICROS_MAX: u64 = 6_000;

#[test]
fn two_hundred_seeds_leave_the_same_rows_in_postgresql() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("build a runtime");
    let db = runtime.block_on(TestDatabase::create()).expect("create a database");
    let options: PgConnectOptions = db.url().parse().expect("read the database's URL");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let options = &options;
            scope.spawn(move || {
                for seed in (1 + thread..=SEEDS).step_by(4) {
                    super::in_one_thread(play(seed, options));
                }
            });
        }
    });
    // Within the runtime that the database's own connections belong to.
    runtime.block_on(async { drop(db) });
}

async fn play(seed: u64, options: &PgConnectOptions) {
    let (world, mut rng, busy) = create(seed);
    // The nodes answer for one chain id; the store keeps the seeds apart.
    let policy = policy(&mut rng);
    let open = async || {
        let mut store = PgStore::new(options, seed).expect("a chain id that fits");
        while !store.lead().await.expect("reach PostgreSQL") {
            // The former connection's lock goes with its socket, which takes the server a moment.
            std::thread::sleep(Duration::from_millis(1));
        }
        store
    };
    let time = Time::default();
    let mut follower = self::following(&world, &time, policy.clone(), open().await, seed);
    for _ in 0..EVENTS {
        happen(&mut world.lock().expect("the world"), &mut rng, busy);
        if rng.random_range(0..20) == 0 {
            drop(follower);
            follower = self::following(&world, &time, policy.clone(), open().await, seed);
        }
        if rng.random_range(0..8) == 0 {
            // A crash in the middle of a step, wherever it is by then; what was not committed is gone.
            let moment = Duration::from_micros(rng.random_range(0..CRASH_MICROS_MAX));
            let _ = tokio::time::timeout(moment, follower.converge()).await;
            drop(follower);
            follower = self::following(&world, &time, policy.clone(), open().await, seed);
        }
        for _ in 0..rng.random_range(1..4) {
            let outcome = follower.converge().await.expect("PostgreSQL makes the step");
            if let Outcome::Waiting { pause, .. } = outcome {
                time.advance(pause);
            }
        }
        time.advance(Duration::from_secs(1));
    }
    heal(&world, &time, &mut follower).await;

    let memory = MemoryStore::default();
    let mut reference = self::following(&world, &time, policy, memory.clone(), seed);
    until_idle(&mut reference).await;
    let mut connection = PgConnection::connect_with(options).await.expect("reach PostgreSQL");
    compare(&mut connection, seed, &memory).await;
}

fn following<S: auspex_indexer::store::Store>(
    world: &Arc<Mutex<World>>,
    time: &Time,
    policy: auspex_indexer::follow::Policy,
    store: S,
    seed: u64,
) -> Follower<SimEndpoint, S> {
    world.lock().expect("the world").chain_id = seed;
    follower(world, time, policy, store, seed)
}

async fn compare(connection: &mut PgConnection, seed: u64, memory: &MemoryStore) {
    for kind in Kind::ALL {
        let sql = format!(
            "select t.id, lower(t.block_range), upper(t.block_range), row_to_json(t)::text
             from indexer.{} t where t.chain_id = $1 order by t.id collate \"C\", lower(t.block_range)",
            kind.table()
        );
        let stored =
            sqlx::query_as::<_, (String, i64, Option<i64>, String)>(sqlx::AssertSqlSafe(sql))
                .bind(seed as i64)
                .fetch_all(&mut *connection)
                .await
                .expect("read a projection");
        let stored: Vec<(String, Version)> = stored
            .into_iter()
            .map(|(id, from, until, json)| {
                let row = Row::from_json(*kind, &json).expect("read a row");
                (id, (from as u64, until.map(|until| until as u64), row))
            })
            .collect();
        let memory = memory.lock();
        let expected: Vec<(String, Version)> = memory
            .versions
            .iter()
            .filter(|((of, _), _)| of == kind)
            .flat_map(|((_, id), versions)| {
                versions.iter().map(move |version| (id.clone(), version.clone()))
            })
            .collect();
        assert_eq!(stored, expected, "seed {seed}, {}", kind.table());
    }
}
