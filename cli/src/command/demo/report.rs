//! The demo's facts, as `report.json` holds them. The schema is described in `docs/demo-report.md`.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use alloy::rpc::types::TransactionReceipt;
use auspex_protocol::answer::Answer;
use auspex_protocol::deployment::Deployment;
use serde::Serialize;

use crate::command::credit::Withdrawal;
use crate::command::request::cite;
use crate::command::request::submit::Submission;
use crate::indexer_client::RequestView;
use crate::token::Token;
use crate::world::World;

/// Version of the report's shape.
const SCHEMA: &str = "auspex.demo-report/2";

/// The transactions of a request, in the order in which they are made.
pub(super) const ORDER: [&str; 4] = ["request", "deliver", "refund", "withdraw"];

#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: &'static str,
    versions: BTreeMap<&'static str, String>,
    addresses: AddressesReport,
    agents: Vec<String>,
    operators: Vec<OperatorReport>,
    corpus_root: B256,
    documents: Vec<String>,
    pub(super) requests: Vec<RequestReport>,
    /// Every transaction of every request, in the order of the requests.
    transactions: Vec<TransactionReport>,
    graphql: GraphqlReport,
    /// From start to stop of the whole world, in milliseconds.
    pub(super) duration_ms: u64,
}

#[derive(Debug, Serialize)]
struct AddressesReport {
    chain_id: u64,
    start_block: u64,
    agent_registry: Address,
    operator_registry: Address,
    entry_policy: Address,
    request_escrow: Address,
    platform_token: Option<Address>,
}

#[derive(Debug, Serialize)]
struct TransactionReport {
    request_id: B256,
    what: &'static str,
    hash: B256,
    gas: Option<u64>,
}

#[derive(Debug, Serialize)]
struct OperatorReport {
    name: String,
    owner: Address,
    signer: Address,
}

/// The programs of others that the demo ran, as they name themselves.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) chain: String,
    pub(super) postgresql: String,
}

#[derive(Debug, Serialize)]
pub(super) struct GraphqlReport {
    query: &'static str,
    pub(super) response: serde_json::Value,
}

#[derive(Debug, Serialize)]
pub(super) struct RequestReport {
    pub(super) title: &'static str,
    pub(super) request_id: B256,
    pub(super) question: String,
    pub(super) status: String,
    pub(super) finality: String,
    pub(super) token: Address,
    pub(super) token_symbol: String,
    pub(super) price: String,
    pub(super) answer: Option<String>,
    pub(super) output_hash: Option<B256>,
    pub(super) citations: Vec<CitationReport>,
    pub(super) signers: Vec<Address>,
    pub(super) split: Vec<ShareReport>,
    pub(super) fee: Option<String>,
    pub(super) residue: Option<String>,
    /// Paid back to the payer in full, to the last unit.
    pub(super) refunded: Option<String>,
    pub(super) gas: BTreeMap<&'static str, u64>,
    pub(super) transactions: BTreeMap<&'static str, B256>,
    /// From sending the request until the indexer served its end, in milliseconds.
    pub(super) latency_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct CitationReport {
    pub(super) place: String,
    document: String,
    document_hash: B256,
    start: u64,
    end: u64,
    score: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct ShareReport {
    pub(super) account: Address,
    /// Its name among the accounts of the demo's world.
    pub(super) name: Option<String>,
    /// In the token's smallest unit.
    amount: String,
    pub(super) shown: String,
}

impl Report {
    pub(super) fn new(
        world: &World,
        programs: Programs,
        requests: Vec<RequestReport>,
        query: &'static str,
        response: serde_json::Value,
    ) -> Self {
        let market = &world.market;
        let versions = BTreeMap::from([
            ("auspex", env!("CARGO_PKG_VERSION").to_owned()),
            ("answer", auspex_protocol::answer::ANSWER_SCHEMA.to_owned()),
            ("chain", programs.chain),
            ("postgresql", programs.postgresql),
        ]);
        let operators = market.operators.iter().map(|operator| OperatorReport {
            name: operator.name.clone(),
            owner: operator.owner,
            signer: operator.signer,
        });
        Self {
            schema: SCHEMA,
            versions,
            addresses: AddressesReport::from(&market.deployment),
            agents: vec![market.agent_id.clone(), market.silent_agent_id.clone()],
            operators: operators.collect(),
            corpus_root: market.corpus_root,
            documents: market.documents.clone(),
            transactions: requests.iter().flat_map(RequestReport::all_transactions).collect(),
            requests,
            graphql: GraphqlReport { query, response },
            duration_ms: 0,
        }
    }

    /// The name of the operator whose key this is.
    pub(super) fn operator(&self, signer: Address) -> Option<&str> {
        let operator = self.operators.iter().find(|operator| operator.signer == signer);
        operator.map(|operator| operator.name.as_str())
    }

    pub(super) fn history(&self) -> &serde_json::Value {
        &self.graphql.response
    }
}

impl From<&Deployment> for AddressesReport {
    fn from(deployment: &Deployment) -> Self {
        Self {
            chain_id: deployment.chain_id,
            start_block: deployment.start_block,
            agent_registry: deployment.agent_registry,
            operator_registry: deployment.operator_registry,
            entry_policy: deployment.entry_policy,
            request_escrow: deployment.request_escrow,
            platform_token: deployment.platform_token,
        }
    }
}

impl RequestReport {
    fn all_transactions(&self) -> Vec<TransactionReport> {
        let transaction = |what: &'static str| {
            let hash = *self.transactions.get(what)?;
            let gas = self.gas.get(what).copied();
            Some(TransactionReport { request_id: self.request_id, what, hash, gas })
        };
        ORDER.into_iter().filter_map(transaction).collect()
    }

    pub(super) async fn answered(
        world: &World,
        title: &'static str,
        submission: &Submission,
        view: &RequestView,
        answer: &Answer,
        latency_ms: u64,
    ) -> anyhow::Result<Self> {
        let mut report = Self::begun(world, title, submission, view, latency_ms).await?;
        let token = token(world, view).await?;
        report.answer = Some(answer.text.clone());
        report.output_hash = view.result.as_ref().map(|result| result.output_hash);
        report.citations = answer
            .citations
            .iter()
            .map(|citation| CitationReport {
                place: cite(citation),
                document: citation.document.clone(),
                document_hash: citation.document_hash,
                start: citation.start,
                end: citation.end,
                score: citation.score,
            })
            .collect();
        report.signers = view.signers.clone().unwrap_or_default();
        if let Some(settled) = &view.settled {
            report.split = settled
                .credits
                .iter()
                .map(|credit| ShareReport {
                    account: credit.account,
                    name: world.account_name(credit.account),
                    amount: credit.amount.to_string(),
                    shown: token.show(credit.amount),
                })
                .collect();
            report.fee = Some(token.show(settled.fee));
            report.residue = Some(token.show(settled.residue));
        }
        if let Some(delivered) = &view.delivered {
            report.transactions.insert("deliver", delivered.transaction_hash);
            if let Some(gas) = delivered.gas_used {
                report.gas.insert("deliver", gas);
            }
        }
        Ok(report)
    }

    pub(super) async fn refunded(
        world: &World,
        title: &'static str,
        submission: &Submission,
        view: &RequestView,
        receipt: &TransactionReceipt,
        paid: &Withdrawal,
        latency_ms: u64,
    ) -> anyhow::Result<Self> {
        let mut report = Self::begun(world, title, submission, view, latency_ms).await?;
        report.refunded = Some(paid.shown.clone());
        report.transactions.insert("refund", receipt.transaction_hash);
        report.gas.insert("refund", receipt.gas_used);
        report.transactions.insert("withdraw", paid.transaction_hash);
        report.gas.insert("withdraw", paid.gas_used);
        Ok(report)
    }

    async fn begun(
        world: &World,
        title: &'static str,
        submission: &Submission,
        view: &RequestView,
        latency_ms: u64,
    ) -> anyhow::Result<Self> {
        let token = token(world, view).await?;
        Ok(Self {
            title,
            request_id: view.request_id,
            question: view.input_text.clone().unwrap_or_default(),
            status: view.status.clone(),
            finality: view.finality.clone(),
            token: token.address,
            price: token.show(U256::from(view.request.max_amount)),
            token_symbol: token.symbol,
            answer: None,
            output_hash: None,
            citations: Vec::new(),
            signers: Vec::new(),
            split: Vec::new(),
            fee: None,
            residue: None,
            refunded: None,
            gas: BTreeMap::from([("request", submission.gas_used)]),
            transactions: BTreeMap::from([("request", submission.transaction_hash)]),
            latency_ms,
        })
    }
}

async fn token(world: &World, view: &RequestView) -> anyhow::Result<Token> {
    let (provider, _) = world.as_account("requester").reader().await?;
    Token::at(&provider, view.request.token).await
}
