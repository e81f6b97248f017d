//! Whose processor time a part takes: everything that the bench runs shares the machine's cores.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;
use sqlx::PgPool;

use crate::table::{Row, Table};

/// Clock ticks per second in `/proc`, on every Linux that is in use.
const TICKS: f64 = 100.0;

/// The processes of a bench, besides the bench itself with its listing and its payer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processes {
    pub(crate) node: u32,
    pub(crate) chain: u32,
    /// PostgreSQL's first process, whose children serve the connections.
    pub(crate) database: u32,
}

/// Processor time in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) node: f64,
    chain: f64,
    database: f64,
    bench: f64,
    /// All processes of the machine, strangers included.
    machine: f64,
}

impl Processes {
    /// The number of the first process of the server that a pool is connected to.
    pub(crate) async fn server_of(pool: &PgPool) -> anyhow::Result<u32> {
        let folder: String =
            sqlx::query_scalar("show data_directory").fetch_one(pool).await.context("ask where")?;
        let text = fs::read_to_string(format!("{folder}/postmaster.pid"))?;
        let line = text.lines().next().context("read postmaster.pid")?;
        line.trim().parse().context("read postmaster.pid")
    }

    /// What they have used since they were started.
    pub(crate) fn used(&self) -> anyhow::Result<Used> {
        let mut database = 0.0;
        for (process, stat) in all()? {
            // A server's first process also knows what its children used that have ended.
            if process == self.database {
                database += stat.own + stat.ended_children;
            } else if stat.parent == self.database {
                database += stat.own;
            }
        }
        Ok(Used {
            node: Stat::read(self.node)?.own,
            chain: Stat::read(self.chain)?.own,
            database,
            bench: Stat::read(std::process::id())?.own,
            machine: machine()?,
        })
    }
}

impl Used {
    /// Rows of milliseconds per request, since `before`.
    pub(crate) fn report(&self, table: &mut Table, part: &str, before: &Self, requests: usize) {
        let per_request = |now: f64, before: f64| (now - before) / requests as f64 * 1e3;
        let node = per_request(self.node, before.node);
        let chain = per_request(self.chain, before.chain);
        let database = per_request(self.database, before.database);
        let bench = per_request(self.bench, before.bench);
        let machine = per_request(self.machine, before.machine);
        let rows = [
            ("node", node),
            ("PostgreSQL", database),
            ("anvil", chain),
            ("bench (payer, listing)", bench),
            ("the rest of the machine", machine - node - chain - database - bench),
        ];
        for (who, milliseconds) in rows {
            table.push(Row::plain(format!("{part}: processor, {who}"), milliseconds, "ms/request"));
        }
    }
}

struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn read(process: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        Self::parse(&stat).with_context(|| format!("read /proc/{process}/stat"))
    }

    fn parse(stat: &str) -> Option<Self> {
        // After the name, which may hold anything: state is field 3, its parent 4, user and system time 14 and 15, those of
        // children that have ended 16 and 17.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let tick = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: (tick(14)? + tick(15)?) / TICKS,
            ended_children: (tick(16)? + tick(17)?) / TICKS,
        })
    }
}

/// Every process that is still there when it is read.
fn all() -> anyhow::Result<BTreeMap<u32, Stat>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(process) = name.to_str().and_then(|name| name.parse().ok())
            && let Ok(stat) = Stat::read(process)
        {
            all.insert(process, stat);
        }
    }
    Ok(all)
}

/// What all processes of the machine have used.
fn machine() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("read /proc/stat")?;
    let fields: Vec<f64> =
        line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq: all but the two that are idle.
    let busy = fields.iter().take(7).enumerate().filter(|(index, _)| !(3..5).contains(index));
    Ok(busy.map(|(_, ticks)| ticks).sum::<f64>() / TICKS)
}
