//! The real process dies at every durable boundary, once on its way and once more while it recovers. In the end the digest
//! is that of a history without a single death.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auspex_devnet::broker::TestBroker;
use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::{Branch, Faults, Replay};
use auspex_indexer::abort::Point;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::chain::{AGENT_EVERY, Last, grow, write_chain_file, write_deployment};
use super::history::{history, tip};
use super::model;
use super::process::Process;

const CHAIN_ID: u64 = 9_001;
const PAST: u64 = 260;
const LAGS: (u64, u64) = (40, 80);
/// One block in so many ends with an event that carries a number, so that an omission shows only blocks later.
const LAST: Last = Last::NumberedEvery(50);

/// The node leaves the last log out of one block in so many, and answers for so many blocks at once.
const OMIT_EVERY: u64 = 100;
const RANGE_MAX: u64 = 20;

/// The process asks the node by so many names, so that one lie does not end the test in a long quarantine.
const ENDPOINTS: usize = 4;

/// Histories that are lived at once.
const AT_ONCE: usize = 3;

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_PAUSE: Duration = Duration::from_millis(30);

/// What a history is made of. It can be left and taken up again at any moment: how far it has come is in the node and in
/// the database.
struct History {
    point: Point,
    database: TestDatabase,
    folder: tempfile::TempDir,
    node: Replay,
    broker: Arc<TestBroker>,
    /// The branches that the node serves one after the other.
    branches: Vec<Branch>,
    serving: usize,
    lives: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Died,
    Lived,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_boundary_and_another_one_on_the_way_back_change_nothing() {
    let (past, other, deep) = branches();
    let right = TestDatabase::create().await.expect("create a database");
    model::index(&right, CHAIN_ID, &other, LAGS).await;
    let should = history(&right.pool(), right.url(), CHAIN_ID, other.head()).await;
    let broker = Arc::new(TestBroker::start().await.expect("start a broker"));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let histories = Point::ALL.iter().map(|point| {
        let (turns, broker) = (Arc::clone(&turns), Arc::clone(&broker));
        let branches = match point {
            // A branch that leaves below the finalized block, and the chain again.
            Point::Halted => vec![past.clone(), other.clone(), deep.clone(), other.clone()],
            _ => vec![past.clone(), other.clone()],
        };
        let should = &should;
        async move {
            let _turn = turns.acquire().await.expect("turns are not closed");
            let mut life = History::new(*point, branches, broker).await;
            life.live().await;
            let pool = life.database.pool();
            let is = history(&pool, life.database.url(), CHAIN_ID, life.last().head()).await;
            assert_eq!(&is, should, "{}", point.name());
            life.check_what_lies_beside(&pool).await;
        }
    });
    futures::future::join_all(histories).await;
}

fn branches() -> (Branch, Branch, Branch) {
    let mut past = Branch::genesis().expect("build a genesis");
    grow(&mut past, PAST, 0, LAST);
    let mut other = past.fork(PAST - 5, 1);
    grow(&mut other, PAST + 1, 1, LAST);
    let mut deep = past.fork(PAST - LAGS.1 - 30, 2);
    grow(&mut deep, PAST + 2, 2, LAST);
    (past, other, deep)
}

impl History {
    async fn new(point: Point, branches: Vec<Branch>, broker: Arc<TestBroker>) -> Self {
        let past = branches[0].clone();
        let head = past.head();
        let node = Replay::start(CHAIN_ID, past, head, LAGS).await.expect("start a node");
        let faults = Faults {
            omit_every: Some(OMIT_EVERY),
            range_max: Some(RANGE_MAX),
            ..Faults::default()
        };
        node.set_faults(faults);
        let folder = tempfile::tempdir().expect("a folder");
        write_chain_file(&folder.path().join("chain.json"), CHAIN_ID, &[node.url(); ENDPOINTS]);
        write_deployment(&folder.path().join("deployment.json"), CHAIN_ID);
        let database = TestDatabase::create().await.expect("create a database");
        Self { point, database, folder, node, broker, branches, serving: 0, lives: 0 }
    }

    fn last(&self) -> &Branch {
        self.branches.last().expect("a branch")
    }

    async fn live(&mut self) {
        let name = self.point.name();
        if matches!(
            self.point,
            Point::RebuildCleared | Point::RebuildWritten | Point::RebuildCommitted
        ) {
            assert_eq!(self.follow(None).await, Ended::Lived, "{name}");
            for abort_at in [Some(1), Some(1), None] {
                let ended = self.rebuild(abort_at).await;
                assert_eq!(ended == Ended::Died, abort_at.is_some(), "{name}");
            }
            return;
        }
        // In the middle of the history where the point is reached at every step.
        let first = if self.point == Point::StepWritten { 4 } else { 1 };
        assert_eq!(
            self.follow(Some((self.point, first))).await,
            Ended::Died,
            "{name} was not reached"
        );
        let again = match self.point {
            // These happen once in a history, so that the death on the way back is at the next write.
            Point::Begun | Point::RepairCommitted | Point::Halted => Point::StepWritten,
            every => every,
        };
        let ended = self.follow(Some((again, 1))).await;
        assert_eq!(ended, Ended::Died, "{name}: {} was not reached on the way back", again.name());
        assert_eq!(self.follow(None).await, Ended::Lived, "{name}");
    }

    /// One life of the process, to its death or to the end of the history.
    async fn follow(&mut self, abort_at: Option<(Point, u32)>) -> Ended {
        let chain = self.path("chain.json");
        let broker = self.broker.url();
        let arguments = [
            "indexer",
            "run",
            "--listen",
            "127.0.0.1:0",
            "--poll-ms",
            "20",
            "--verify-sample",
            "0",
            "--verify-live",
            "linked",
            "--verify-backfill",
            "linked",
            "--database-url",
            self.database.url(),
            "--chain",
            &chain,
            "--broker-url",
            &broker,
        ];
        let abort_at = abort_at.map(|(point, hit)| format!("{}={hit}", point.name()));
        self.lives += 1;
        let log = self.folder.path().join(format!("{}.log", self.lives));
        let mut process = Process::start(&log, &arguments, abort_at.as_deref());
        let started = Instant::now();
        loop {
            if process.ended().is_some() {
                return Ended::Died;
            }
            if self.is_branch_done().await {
                if self.serving + 1 < self.branches.len() {
                    self.serving += 1;
                    let branch = self.branches[self.serving].clone();
                    let head = branch.head();
                    self.node.switch(branch, head);
                } else if self.is_all_done().await {
                    return Ended::Lived;
                }
            }
            let name = self.point.name();
            assert!(
                started.elapsed() < PATIENCE,
                "{name}: neither death nor end: {}",
                process.log()
            );
            sleep(LOOK_PAUSE).await;
        }
    }

    async fn rebuild(&mut self, abort_at: Option<u32>) -> Ended {
        let deployment = self.path("deployment.json");
        let token = format!("0x{}", "a4".repeat(20));
        let arguments = [
            "indexer",
            "rebuild",
            "--database-url",
            self.database.url(),
            "--deployment",
            &deployment,
            "--token",
            &token,
        ];
        let abort_at = abort_at.map(|hit| format!("{}={hit}", self.point.name()));
        self.lives += 1;
        let log = self.folder.path().join(format!("{}.log", self.lives));
        let mut process = Process::start(&log, &arguments, abort_at.as_deref());
        let started = Instant::now();
        loop {
            if let Some(ended) = process.ended() {
                return if ended.success() { Ended::Lived } else { Ended::Died };
            }
            assert!(started.elapsed() < PATIENCE, "the rebuild does not end: {}", process.log());
            sleep(LOOK_PAUSE).await;
        }
    }

    /// The branch that the node serves now is followed to its end, or was refused for good.
    async fn is_branch_done(&self) -> bool {
        let branch = &self.branches[self.serving];
        let pool = self.database.pool();
        if self.point == Point::Halted && self.serving == 2 {
            let halted =
                sqlx::query_scalar::<_, bool>("select halted is not null from indexer.cursors");
            return halted.fetch_optional(&pool).await.ok().flatten() == Some(true);
        }
        let head = branch.block(branch.head()).expect("a head");
        tip(&pool, CHAIN_ID).await == Some((head.number, head.hash))
    }

    /// Everything that follows from the chain was told and looked after.
    async fn is_all_done(&self) -> bool {
        let pool = self.database.pool();
        let told = "select coalesce((select max(id) from indexer.outbox), 0)
            <= coalesce((select max(outbox_id) from indexer.outbox_readers), 0)";
        let files = "select count(*) = 0 from indexer.agents a
            left join indexer.agent_files f on f.chain_id = a.chain_id and f.agent_id = a.agent_id
            where upper_inf(a.block_range) and f.uri is distinct from a.agent_uri";
        let halted = "select halted is null from indexer.cursors";
        for sql in [told, files, halted] {
            if !sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.expect("look") {
                return false;
            }
        }
        true
    }

    async fn check_what_lies_beside(&self, pool: &PgPool) {
        let files = "select count(*) from indexer.agent_files where status = 'resolved'";
        let resolved =
            sqlx::query_scalar::<_, i64>(files).fetch_one(pool).await.expect("count files");
        let agents = i64::try_from(PAST / AGENT_EVERY).expect("few agents");
        let name = self.point.name();
        assert_eq!(resolved, agents, "{name}");
        let orphans = "select count(*) from indexer.facts f
             where not exists (select 1 from indexer.blocks b where b.chain_id = f.chain_id and b.hash = f.block_hash)";
        let orphans =
            sqlx::query_scalar::<_, i64>(orphans).fetch_one(pool).await.expect("count orphans");
        assert_eq!(orphans, 0, "{name}: facts of blocks that are not in the chain");
    }

    fn path(&self, name: &str) -> String {
        Path::new(self.folder.path()).join(name).to_string_lossy().into_owned()
    }
}
