//! The real process against a node that lies over HTTP in every way of the field's failure table, at both levels of
//! verification. While the node lies, what is stored is right as far as it goes, and where it does not go to the head the
//! process says why. When the node is honest again and the process was killed and started anew, the database's digest is
//! that of an honest history.

use std::path::Path;
use std::time::{Duration, Instant};

use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::{Branch, Faults, Replay};
use rand::{Rng, SeedableRng};
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::sleep;

use super::chain::{Last, grow, write_chain_file, write_deployment};
use super::history::{history, key, places, places_of, tip, until_nobody_writes};
use super::model;
use super::process::Process;

/// Blocks of a chain's past, and how far its safe and finalized blocks lie behind its head.
const PAST: u64 = 700;
const LAGS: (u64, u64) = (100, 320);

/// Every block ends with an event that carries a sequence number, or with one that does not.
const NUMBERED: Last = Last::NumberedEvery(1);

/// How long a lying node is given per turn; after that the test goes on with what there is.
const LIE_TIME: Duration = Duration::from_secs(6);
/// How long a new block is waited for while the node lies.
const BLOCK_TIME: Duration = Duration::from_millis(600);
/// How long an honest node's chain may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What happens to a chain after its backfill.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// So many blocks come, one by one.
    Blocks(u64),
    /// The highest blocks are replaced by another branch of this length.
    Replace { depth: u64, length: u64 },
    /// The branch before that is the chain again, and longer than the one that replaced it.
    Back,
}

/// One row of the table.
#[derive(Debug, Clone)]
struct Case {
    name: &'static str,
    /// What is wrong with the node during the backfill, and afterwards.
    backfill: Faults,
    live: Faults,
    /// True when the turns begin as soon as something is indexed.
    early: bool,
    turns: Vec<Turn>,
    last: Last,
}

impl Case {
    fn lies(name: &'static str, faults: Faults) -> Self {
        let live = Faults::default();
        Self { name, backfill: faults, live, early: false, turns: vec![], last: NUMBERED }
    }

    fn lies_live(name: &'static str, faults: Faults) -> Self {
        Self { live: faults, turns: vec![Turn::Blocks(8)], ..Self::lies(name, Faults::default()) }
    }

    fn turns(name: &'static str, turns: &[Turn]) -> Self {
        Self { turns: turns.to_vec(), ..Self::lies(name, Faults::default()) }
    }

    /// What level `linked` is documented not to see: a log that nothing numbers, left out of a block whose other logs are
    /// given, with no second endpoint and outside the sample.
    fn is_beyond_linked(&self) -> bool {
        self.last == Last::Transfer
    }
}

fn cases() -> Vec<Case> {
    use Turn::{Back, Blocks, Replace};
    let honest = Faults::default;
    let omit = || Faults { omit_every: Some(13), ..honest() };
    let small = Faults { logs_max: Some(120), latency: Duration::from_millis(40), ..honest() };
    vec![
        Case::turns("clean, following live", &[Blocks(8)]),
        Case::lies("omitted logs, backfill", omit()),
        Case::lies_live("omitted logs, live", Faults { omit_every: Some(3), ..honest() }),
        Case { last: Last::Transfer, ..Case::lies("omitted logs that nothing numbers", omit()) },
        Case::lies("empty logs though the bloom matches", Faults { empty: true, ..honest() }),
        Case::lies_live("empty logs, live", Faults { empty: true, ..honest() }),
        Case::lies("empty logs once per block", Faults { empty_first: true, ..honest() }),
        Case::lies_live("empty logs once per new block", Faults { empty_first: true, ..honest() }),
        Case::lies("a stale node every second time", Faults { behind: 5, ..honest() }),
        Case::lies_live("a stale node, live", Faults { behind: 5, ..honest() }),
        Case::lies("duplicate logs, backfill", Faults { duplicate: true, ..honest() }),
        Case::lies_live("duplicate logs, live", Faults { duplicate: true, ..honest() }),
        Case::lies("a removed log, backfill", Faults { removed: true, ..honest() }),
        Case::lies_live("a removed log, live", Faults { removed: true, ..honest() }),
        Case::lies("a foreign block hash, backfill", Faults { foreign_hash: true, ..honest() }),
        Case::lies_live("a foreign block hash, live", Faults { foreign_hash: true, ..honest() }),
        Case::lies("answers cut without an error", Faults { cut_logs: Some(50), ..honest() }),
        Case::lies_live("a new block null twice", Faults { null_first: 2, ..honest() }),
        Case::lies("a range limit in QuickNode's words", Faults { range_max: Some(7), ..honest() }),
        Case::lies("a result limit in Alchemy's words", Faults { logs_max: Some(60), ..honest() }),
        Case::lies("HTTP 429 on every fifth request", Faults { refuse_every: Some(5), ..honest() }),
        Case::lies("a log query that hangs", Faults { hang_logs: 1, ..honest() }),
        Case::turns("the tip at the same height", &[Replace { depth: 1, length: 1 }]),
        Case::turns("reorg 5 after the backfill", &[Replace { depth: 5, length: 6 }]),
        Case::turns("reorg 60 after the backfill", &[Replace { depth: 60, length: 61 }]),
        Case::turns("reorg 300 after the backfill", &[Replace { depth: 300, length: 301 }]),
        Case::turns("reorg 5, live", &[Blocks(8), Replace { depth: 5, length: 6 }]),
        Case::turns("reorg 60, live", &[Blocks(8), Replace { depth: 60, length: 61 }]),
        Case::turns("reorg 300, live", &[Blocks(8), Replace { depth: 300, length: 301 }]),
        Case::turns("A, B, A", &[Replace { depth: 5, length: 6 }, Back]),
        Case::turns("shorter by 3, depth 5", &[Replace { depth: 5, length: 2 }]),
        Case::turns("shorter by 40, depth 60", &[Replace { depth: 60, length: 20 }]),
        Case {
            early: true,
            ..Case {
                backfill: small,
                ..Case::turns("reorg 60 in the backfill", &[Replace { depth: 60, length: 61 }])
            }
        },
    ]
}

/// A case that is being played.
struct Play {
    case: Case,
    chain_id: u64,
    node: Replay,
    /// Every branch that the node served; the last one is the chain.
    branches: Vec<Branch>,
}

impl Play {
    async fn new(case: Case, chain_id: u64, past: &Branch) -> Self {
        let node = Replay::start(chain_id, past.clone(), past.head(), LAGS).await;
        let node = node.expect("start a node");
        node.set_faults(case.backfill.clone());
        Self { case, chain_id, node, branches: vec![past.clone()] }
    }

    fn branch(&self) -> &Branch {
        self.branches.last().expect("a branch")
    }

    async fn is_at_head(&self, pool: &PgPool) -> bool {
        let branch = self.branch();
        let head = branch.block(branch.head()).expect("a head");
        tip(pool, self.chain_id).await == Some((head.number, head.hash))
    }

    /// Waits for the head, and not for longer than this.
    async fn reach_head(&self, pool: &PgPool, limit: Duration) -> bool {
        let started = Instant::now();
        while started.elapsed() < limit {
            if self.is_at_head(pool).await {
                return true;
            }
            sleep(LOOK_PAUSE).await;
        }
        false
    }

    async fn play(&mut self, pool: &PgPool) {
        if self.case.early {
            let started = Instant::now();
            while tip(pool, self.chain_id).await.is_none_or(|(number, _)| number == 0) {
                assert!(started.elapsed() < PATIENCE, "{}: nothing was indexed", self.case.name);
                sleep(LOOK_PAUSE).await;
            }
        } else {
            self.reach_head(pool, LIE_TIME).await;
        }
        self.node.set_faults(self.case.live.clone());
        for turn in self.case.turns.clone() {
            self.turn(turn, pool).await;
        }
    }

    async fn turn(&mut self, turn: Turn, pool: &PgPool) {
        let salt = self.branches.len() as u64;
        match turn {
            Turn::Blocks(count) => {
                for _ in 0..count {
                    let last = self.case.last;
                    let branch = self.branches.last_mut().expect("a branch");
                    grow(branch, branch.head() + 1, salt - 1, last);
                    self.node.switch(branch.clone(), branch.head());
                    self.reach_head(pool, BLOCK_TIME).await;
                }
            }
            Turn::Replace { depth, length } => {
                let above = self.branch().head() - depth;
                let mut branch = self.branch().fork(above, salt);
                grow(&mut branch, above + length, salt, self.case.last);
                self.serve(branch);
            }
            Turn::Back => {
                let height = self.branch().head() + 1;
                let mut branch = self.branches[self.branches.len() - 2].clone();
                grow(&mut branch, height, salt - 2, self.case.last);
                self.serve(branch);
            }
        }
        self.reach_head(pool, LIE_TIME).await;
    }

    fn serve(&mut self, branch: Branch) {
        self.node.switch(branch.clone(), branch.head());
        self.branches.push(branch);
    }

    /// What is stored is one of the branches up to the cursor.
    async fn check_prefix(&self, pool: &PgPool, level: &str) {
        let name = self.case.name;
        let Some((number, hash)) = tip(pool, self.chain_id).await else { return };
        let holds = |branch: &&Branch| branch.block(number).is_some_and(|block| block.hash == hash);
        let branch = self.branches.iter().rev().find(holds);
        let branch = branch
            .unwrap_or_else(|| panic!("{level}, {name}: block {number} {hash} is of no branch"));
        let (stored, expected) = (places(pool, self.chain_id).await, places_of(branch, number));
        if level == "linked" && self.is_omission_open() {
            // What is missing shows at the next number, which may still be to come; phantoms never.
            assert!(
                stored.iter().all(|place| expected.contains(place)),
                "{level}, {name}: a phantom"
            );
            return;
        }
        assert!(
            stored == expected,
            "{level}, {name}: {} facts are stored up to block {number}, the chain has {}",
            stored.len(),
            expected.len()
        );
    }

    fn is_omission_open(&self) -> bool {
        let omits = |faults: &Faults| faults.omit_every.is_some() || faults.cut_logs.is_some();
        omits(&self.case.backfill) || omits(&self.case.live)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_full_verification_no_lie_is_stored() {
    play_all("full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_linked_verification_no_lie_is_stored_but_the_one_that_is_documented() {
    play_all("linked").await;
}

async fn play_all(level: &str) {
    let database = TestDatabase::create().await.expect("create a database");
    let pool = database.pool();
    let folder = tempfile::tempdir().expect("a folder");
    let mut numbered = Branch::genesis().expect("build a genesis");
    grow(&mut numbered, PAST, 0, NUMBERED);
    let mut unnumbered = Branch::genesis().expect("build a genesis");
    grow(&mut unnumbered, PAST, 0, Last::Transfer);
    let mut plays = Vec::new();
    for (chain_id, case) in (9_001..).zip(cases()) {
        let past = if case.last == Last::Transfer { &unnumbered } else { &numbered };
        plays.push(Play::new(case, chain_id, past).await);
    }
    let arguments = arguments(folder.path(), database.url(), level, &plays);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();

    let process = Process::start(&folder.path().join("lying.log"), &arguments, None);
    let url = process.url().await;
    futures::future::join_all(plays.iter_mut().map(|play| play.play(&pool))).await;
    for play in &plays {
        wait_for_head_or_reason(play, &pool, &url, level).await;
    }
    process.kill();
    until_nobody_writes(&pool).await;
    for play in &plays {
        play.check_prefix(&pool, level).await;
        play.node.set_faults(Faults::default());
    }

    let process = Process::start(&folder.path().join("honest.log"), &arguments, None);
    process.url().await;
    let right = TestDatabase::create().await.expect("create a database");
    for play in &plays {
        let (name, branch) = (play.case.name, play.branch());
        assert!(play.reach_head(&pool, PATIENCE).await, "{level}, {name}: not at the honest head");
        if level == "linked" && play.case.is_beyond_linked() {
            let expected = places_of(branch, branch.head()).len() as u64;
            let missing = expected - places(&pool, play.chain_id).await.len() as u64;
            let omitted = (PAST - LAGS.1) / 13;
            assert!(
                omitted <= missing,
                "{name}: {missing} facts are missing, {omitted} were left out"
            );
            continue;
        }
        model::index(&right, play.chain_id, branch, LAGS).await;
        let is = history(&pool, database.url(), play.chain_id, branch.head()).await;
        let should = history(&right.pool(), right.url(), play.chain_id, branch.head()).await;
        assert_eq!(is, should, "{level}, {name}");
    }
}

/// Where the node keeps the process from its head, the status says what is wrong.
async fn wait_for_head_or_reason(play: &Play, pool: &PgPool, url: &str, level: &str) {
    let started = Instant::now();
    loop {
        if play.is_at_head(pool).await {
            return;
        }
        let reply = reqwest::get(format!("{url}/v1/status")).await.expect("the indexer answers");
        let status: Value = reply.json().await.expect("JSON");
        let chains = status["chains"].as_array().expect("chains");
        let chain = chains.iter().find(|chain| chain["chainId"] == play.chain_id);
        let chain = chain.expect("the chain is served");
        if chain["reason"].is_string() || chain["trouble"].is_string() {
            return;
        }
        let name = play.case.name;
        assert!(
            started.elapsed() < PATIENCE,
            "{level}, {name}: not at the head, and no reason: {chain}"
        );
        sleep(LOOK_PAUSE).await;
    }
}

fn arguments(folder: &Path, database_url: &str, level: &str, plays: &[Play]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["indexer", "run", "--listen", "127.0.0.1:0", "--poll-ms", "50", "--verify-sample", "0"]
            .map(str::to_owned)
            .to_vec();
    let options =
        [("--database-url", database_url), ("--verify-live", level), ("--verify-backfill", level)];
    for (name, value) in options {
        arguments.extend([name.to_owned(), value.to_owned()]);
    }
    for play in plays {
        let file = folder.join(format!("{}.json", play.chain_id));
        write_chain_file(&file, play.chain_id, &[play.node.url()]);
        arguments.extend(["--chain".to_owned(), file.to_string_lossy().into_owned()]);
    }
    arguments
}

/// Slow, small answers, so that there is much to interrupt.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    const KILLS: u32 = 6;
    let seed = rand::random::<u64>();
    eprintln!("seed {seed}");
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let database = TestDatabase::create().await.expect("create a database");
    let folder = tempfile::tempdir().expect("a folder");
    let mut branch = Branch::genesis().expect("build a genesis");
    grow(&mut branch, PAST, 0, NUMBERED);
    let slow =
        Faults { latency: Duration::from_millis(40), range_max: Some(20), ..Faults::default() };
    let case = Case::lies("kill -9 in the backfill", slow);
    let play = Play::new(case, 9_000, &branch).await;
    let arguments = arguments(folder.path(), database.url(), "linked", std::slice::from_ref(&play));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for kill in 0..KILLS {
        let process = Process::start(&folder.path().join(format!("{kill}.log")), &arguments, None);
        process.url().await;
        sleep(Duration::from_millis(rng.random_range(0..1_200))).await;
        process.kill();
        until_nobody_writes(&database.pool()).await;
        play.check_prefix(&database.pool(), "linked").await;
    }
    let process = Process::start(&folder.path().join("last.log"), &arguments, None);
    assert!(play.reach_head(&database.pool(), PATIENCE).await, "seed {seed}: not at the head");
    process.kill();
    let right = TestDatabase::create().await.expect("create a database");
    model::index(&right, play.chain_id, &branch, LAGS).await;
    let is = history(&database.pool(), database.url(), play.chain_id, branch.head()).await;
    let should = history(&right.pool(), right.url(), play.chain_id, branch.head()).await;
    assert_eq!(is, should, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_chain_is_refused_at_the_start() {
    let database = TestDatabase::create().await.expect("create a database");
    let folder = tempfile::tempdir().expect("a folder");
    let branch = Branch::genesis().expect("build a genesis");
    let node = Replay::start(424_242, branch, 0, LAGS).await.expect("start a node");
    let deployment = folder.path().join("deployment.json");
    write_deployment(&deployment, 9_000);
    let deployment = deployment.to_string_lossy();
    let arguments = [
        "indexer",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        database.url(),
        "--rpc-url",
        node.url(),
        "--deployment",
        &deployment,
    ];
    let mut process = Process::start(&folder.path().join("log"), &arguments, None);
    let started = Instant::now();
    let ended = loop {
        if let Some(ended) = process.ended() {
            break ended;
        }
        assert!(started.elapsed() < PATIENCE, "it goes on: {}", process.log());
        sleep(LOOK_PAUSE).await;
    };
    assert!(!ended.success());
    let log = process.log();
    assert!(log.contains("serves chain 424242"), "{log}");
    let stored =
        sqlx::query_scalar::<_, i64>("select count(*) from indexer.cursors where chain_id = $1")
            .bind(key(9_000))
            .fetch_one(&database.pool())
            .await
            .expect("count the cursors");
    assert_eq!(stored, 0);
}
