//! What the node counts. Counters belong to a node and not to the process, because one process may run several nodes; they
//! are written in Prometheus's text format.

use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Upper bounds of the histograms of durations, in seconds: a question's embedding takes milliseconds, a document's minutes.
const SECONDS_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of the histograms of batches, in tokens.
const TOKENS_BUCKETS: [f64; 9] = [16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

/// How often what was recorded is folded into its buckets, so that it does not pile up where nobody reads `/metrics`.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What the process records beside its nodes: the inference engine's histograms. Nodes of one process share it, because they
/// share the engine too.
#[derive(Debug, Clone)]
pub struct ProcessMeters(PrometheusHandle);

impl ProcessMeters {
    /// Installs the process's recorder, or finds the one that an earlier call has installed.
    pub fn install() -> anyhow::Result<Self> {
        static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| build().map_err(|error| format!("{error:#}")));
        handle.clone().map(Self).map_err(anyhow::Error::msg)
    }

    /// The Prometheus text.
    pub fn text(&self) -> String {
        self.0.render()
    }

    /// Folds recorded values into their buckets.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }

    /// Folds recorded values into their buckets until told to stop.
    pub async fn keep(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut turns = tokio::time::interval(UPKEEP_INTERVAL);
        while shutdown.run_until_cancelled(turns.tick()).await.is_some() {
            self.upkeep();
        }
        Ok(())
    }
}

fn build() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .context("set the buckets of durations")?
        .set_buckets_for_metric(Matcher::Suffix("_tokens".to_owned()), &TOKENS_BUCKETS)
        .context("set the buckets of batches")?
        .install_recorder()
        .context("install the recorder of metrics")
}

/// One counter or gauge.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How old the node's view of the chain is.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    pub read_seconds: f64,
    pub block_seconds: f64,
}

impl Ages {
    /// Nothing has been read yet.
    pub const NEVER: Self = Self { read_seconds: f64::INFINITY, block_seconds: f64::INFINITY };
}

/// Everything that a node counts.
#[derive(Debug, Default)]
pub struct Meters {
    pub requests_found: Meter,
    pub requests_disbelieved: Meter,
    pub answers: Meter,
    pub answer_milliseconds: Meter,
    pub step_failures: Meter,
    pub leases_lost: Meter,
    pub messages_applied: Meter,
    pub messages_ignored: Meter,
    pub equivocations_refused: Meter,
    pub bus_connections: Meter,
    pub bus_connected: Meter,
    pub bus_rebuilds: Meter,
    pub board_failures: Meter,
    pub strangers_with_our_key: Meter,
    pub deliveries_intended: Meter,
    pub manager: ManagerMeters,
    pub transactions_sent: Meter,
    pub deliveries_batched: Meter,
    pub transactions_raised: Meter,
    pub transactions_resent: Meter,
    pub transactions_refused: Meter,
    pub nonces_adopted: Meter,
    pub intents_confirmed: Meter,
    pub intents_failed: Meter,
    pub intents_replaced: Meter,
    pub has_custody: Meter,
    pub blocked: Meter,
    pub oldest_transaction_seconds: Meter,
    pub balance_wei: Meter,
    pub signer_refusals: Meter,
    pub partials_published: Meter,
    pub partials_dropped: Meter,
}

/// Where the transaction manager's time goes, in microseconds.
#[derive(Debug, Default)]
pub struct ManagerMeters {
    pub looks: Meter,
    /// Reading the chain's heads, the account, the price of gas, and what the database knows.
    pub reading: Meter,
    /// Reading receipts.
    pub receipts: Meter,
    /// Finding out how much gas is needed, and putting deliveries together.
    pub weighing: Meter,
    /// Signing, storing and sending transactions.
    pub sending: Meter,
    /// Storing what became of them.
    pub noting: Meter,
}

impl ManagerMeters {
    fn write(&self, text: &mut String) {
        let name = "auspex_oracle_manager_microseconds_total";
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} Time of the transaction manager by stage.\n# TYPE {name} counter"
        );
        let stages = [
            ("reading", &self.reading),
            ("receipts", &self.receipts),
            ("weighing", &self.weighing),
            ("sending", &self.sending),
            ("noting", &self.noting),
        ];
        for (stage, meter) in stages {
            let _ = writeln!(text, "{name}{{stage=\"{stage}\"}} {}", meter.get());
        }
    }
}

impl Meters {
    /// The Prometheus text, with gauges that were read from the database at this moment.
    pub fn text(&self, jobs: &[(String, i64)], ages: Ages) -> String {
        let mut text = String::new();
        let counters = [
            ("requests_found_total", "Requests that became jobs.", &self.requests_found),
            (
                "requests_disbelieved_total",
                "Requests whose hashes did not fit.",
                &self.requests_disbelieved,
            ),
            ("answers_total", "Answers derived.", &self.answers),
            ("answer_milliseconds_total", "Time spent on answers.", &self.answer_milliseconds),
            (
                "step_failures_total",
                "Steps of jobs that failed and are tried again.",
                &self.step_failures,
            ),
            ("leases_lost_total", "Leases lost to another worker.", &self.leases_lost),
            (
                "messages_applied_total",
                "Messages of operators that were applied.",
                &self.messages_applied,
            ),
            (
                "messages_ignored_total",
                "Messages of operators that were not.",
                &self.messages_ignored,
            ),
            (
                "equivocations_refused_total",
                "Results that differed from the one on record and were not signed.",
                &self.equivocations_refused,
            ),
            ("bus_connections_total", "Connections made to the broker.", &self.bus_connections),
            ("bus_rebuilds_total", "Broker clients thrown away.", &self.bus_rebuilds),
            ("board_failures_total", "Calls of the indexer that failed.", &self.board_failures),
            (
                "strangers_with_our_key_total",
                "Heartbeats signed with our key by another node.",
                &self.strangers_with_our_key,
            ),
            (
                "deliveries_intended_total",
                "Deliveries handed to the transaction manager.",
                &self.deliveries_intended,
            ),
            (
                "manager_looks_total",
                "Times that the transaction manager looked at everything.",
                &self.manager.looks,
            ),
            ("transactions_sent_total", "New transactions.", &self.transactions_sent),
            (
                "deliveries_batched_total",
                "Deliveries that travelled with others in one transaction.",
                &self.deliveries_batched,
            ),
            (
                "transactions_raised_total",
                "Replacements at a higher fee.",
                &self.transactions_raised,
            ),
            (
                "transactions_resent_total",
                "Transactions sent again as they were.",
                &self.transactions_resent,
            ),
            (
                "transactions_refused_total",
                "Transactions that no endpoint took.",
                &self.transactions_refused,
            ),
            (
                "signer_refusals_total",
                "Questions that the signer's policy refused.",
                &self.signer_refusals,
            ),
            (
                "partials_published_total",
                "Parts of unfinished answers handed to the broker.",
                &self.partials_published,
            ),
            (
                "partials_dropped_total",
                "Parts of unfinished answers that were lost.",
                &self.partials_dropped,
            ),
            (
                "nonces_adopted_total",
                "Times that our key had used nonces unknown here.",
                &self.nonces_adopted,
            ),
            (
                "intents_confirmed_total",
                "Intents that came true on the safe chain.",
                &self.intents_confirmed,
            ),
            (
                "intents_failed_total",
                "Intents that reverted on the safe chain.",
                &self.intents_failed,
            ),
            (
                "intents_replaced_total",
                "Intents whose nonce went to something else.",
                &self.intents_replaced,
            ),
        ];
        for (name, help, meter) in counters {
            metric(&mut text, name, "counter", help, &meter.get().to_string());
        }
        self.manager.write(&mut text);
        let gauges = [
            ("bus_connected", "1 while the broker is connected.", &self.bus_connected),
            (
                "has_custody",
                "1 while this process works on the transmitter's nonces.",
                &self.has_custody,
            ),
            ("transactions_blocked", "1 while nothing new can be sent.", &self.blocked),
            (
                "oldest_transaction_seconds",
                "Time since the oldest transaction that is not mined was signed.",
                &self.oldest_transaction_seconds,
            ),
            (
                "transmitter_balance_wei",
                "The transmitter's balance, at most 2^64 - 1.",
                &self.balance_wei,
            ),
        ];
        for (name, help, meter) in gauges {
            metric(&mut text, name, "gauge", help, &meter.get().to_string());
        }
        let ages = [
            ("head_age_seconds", "Time since the chain's head was last read.", ages.read_seconds),
            ("block_age_seconds", "Time since the newest block arrived.", ages.block_seconds),
        ];
        for (name, help, seconds) in ages {
            // Prometheus writes infinity, which stands for "never read", with a sign.
            let value = format!("{seconds:.3}").replace("inf", "+Inf");
            metric(&mut text, name, "gauge", help, &value);
        }
        text.push_str(
            "# HELP auspex_oracle_jobs Jobs by state.\n# TYPE auspex_oracle_jobs gauge\n",
        );
        for (state, count) in jobs {
            let _ = writeln!(text, "auspex_oracle_jobs{{state=\"{state}\"}} {count}");
        }
        text
    }
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "# HELP auspex_oracle_{name} {help}\n# TYPE auspex_oracle_{name} {kind}\nauspex_oracle_{name} {value}"
    );
}
