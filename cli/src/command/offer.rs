//! `auspex offer`: what an agent sells.

use std::collections::BTreeMap;
use std::str::FromStr;

use alloy::primitives::{Address, B256, U256};
use anyhow::{Context, bail};
use auspex_protocol::bindings::IRequestEscrow::{self, Offer, Split};
use auspex_protocol::bindings::{IERC721, IOperatorRegistry};
use auspex_protocol::document::{OfferDocument, SplitDocument};
use auspex_protocol::{split, terms};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::chain;
use crate::connection::ConnectionArguments;
use crate::indexer_client::{IndexerClient, OfferView, Page};
use crate::output::{Output, fields, table};
use crate::token::Token;
use crate::units;

#[derive(Debug, Subcommand)]
pub(crate) enum OfferCommand {
    /// Publish an offer of an agent that the chosen key owns.
    #[command(
        after_help = "Example:\n  auspex offer publish --agent 0 --token AUSPEX --price 10 --operator-set 1 \\\n    --payee 0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc=70 --payee 0x976EA74026E726554dB657fA54763abd0C3a0aa9=30 --as agent"
    )]
    Publish(PublishArguments),
    /// Stop an offer from taking new requests.
    #[command(after_help = "Example:\n  auspex offer retire 0x5d...e1 --as agent")]
    Retire { offer_hash: B256 },
    /// Show one offer.
    #[command(after_help = "Example:\n  auspex offer show 0x5d...e1")]
    Show { offer_hash: B256 },
    /// List offers.
    #[command(after_help = "Example:\n  auspex offer list --agent 0")]
    List {
        /// Only offers of this agent.
        #[arg(long)]
        agent: Option<U256>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PublishArguments {
    /// The agent's ERC-8004 id.
    #[arg(long)]
    pub(crate) agent: U256,
    /// The token that is paid: an address, a symbol, or ETH.
    #[arg(long, default_value = "ETH")]
    pub(crate) token: String,
    /// The most that one request costs, in whole tokens.
    #[arg(long)]
    pub(crate) price: String,
    /// The operator set that answers.
    #[arg(long)]
    pub(crate) operator_set: u64,
    /// A payee and its share, such as 0xAB...=70; up to 16.
    #[arg(long = "payee", required = true, value_name = "ADDRESS=SHARE")]
    pub(crate) payees: Vec<Payee>,
    /// Merkle root of the corpus (`auspex corpus list` prints it); zero pins none.
    #[arg(long, default_value_t = B256::ZERO)]
    pub(crate) corpus_root: B256,
    /// Hash of the model (`auspex model show` prints it); zero pins none.
    #[arg(long, default_value_t = B256::ZERO)]
    pub(crate) model_hash: B256,
    /// Shortest time from request to deadline, in seconds.
    #[arg(long, default_value_t = 30)]
    pub(crate) duration_min: u32,
    /// Longest time from request to deadline, in seconds.
    #[arg(long, default_value_t = 86_400)]
    pub(crate) duration_max: u32,
}

/// One payee of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payee {
    pub(crate) account: Address,
    pub(crate) share: u64,
}

impl FromStr for Payee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (account, share) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is not ADDRESS=SHARE"))?;
        Ok(Self {
            account: account.parse().map_err(|_| format!("{account:?} is not an address"))?,
            share: share.parse().map_err(|_| format!("{share:?} is not a whole share"))?,
        })
    }
}

/// A published offer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Publication {
    pub(crate) offer_hash: B256,
    pub(crate) offer: OfferDocument,
    pub(crate) split: SplitDocument,
    pub(crate) transaction_hash: B256,
    pub(crate) gas_used: u64,
}

pub(crate) async fn run(
    command: OfferCommand,
    connection: &ConnectionArguments,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        OfferCommand::Publish(arguments) => {
            let publication = publish(connection, &arguments).await?;
            output.result(&publication, |p| {
                format!(
                    "published offer {} of agent {} (transaction {})\nnext: auspex request submit --offer {} --input \"...\"",
                    p.offer_hash, p.offer.agent_id, p.transaction_hash, p.offer_hash
                )
            })
        }
        OfferCommand::Retire { offer_hash } => retire(connection, offer_hash, output).await,
        OfferCommand::Show { offer_hash } => {
            let view = known_offer(connection, offer_hash).await?;
            output.result(&view, |view| fields(rows(view)))
        }
        OfferCommand::List { agent } => {
            let indexer = IndexerClient::new(connection.indexer()?)?;
            let agent = agent.map(|agent| format!("?agentId={agent}")).unwrap_or_default();
            let page: Page<OfferView> = indexer
                .get(&format!("v1/offers{agent}"))
                .await?
                .context("the indexer does not serve offers")?;
            let tokens = tokens(connection, &page.items).await;
            output.result(&page.items, |offers| {
                table(
                    ["offer", "agent", "price", "set", "active"],
                    offers.iter().map(|view| {
                        let offer = &view.offer;
                        let price = match tokens.get(&offer.token) {
                            Some(token) => token.show(U256::from(offer.price)),
                            None => format!("{} units of {}", offer.price, offer.token),
                        };
                        [
                            view.offer_hash.to_string(),
                            offer.agent_id.to_string(),
                            price,
                            offer.operator_set_id.to_string(),
                            view.active.to_string(),
                        ]
                    }),
                )
            })
        }
    }
}

/// What is known of the tokens that offers are paid in. A list needs no chain, so without one prices stay in units.
async fn tokens(
    connection: &ConnectionArguments,
    offers: &[OfferView],
) -> BTreeMap<Address, Token> {
    let mut known = BTreeMap::new();
    let Ok((provider, _)) = connection.reader().await else { return known };
    for view in offers {
        let address = view.offer.token;
        if known.contains_key(&address) {
            continue;
        }
        if let Ok(token) = Token::at(&provider, address).await {
            known.insert(address, token);
        }
    }
    known
}

/// Publishes an offer for the chosen key.
pub(crate) async fn publish(
    connection: &ConnectionArguments,
    arguments: &PublishArguments,
) -> anyhow::Result<Publication> {
    let payees = Split {
        recipients: arguments.payees.iter().map(|payee| payee.account).collect(),
        allocations: arguments.payees.iter().map(|payee| U256::from(payee.share)).collect(),
        totalAllocation: arguments.payees.iter().map(|payee| U256::from(payee.share)).sum(),
        distributionIncentive: 0,
    };
    split::validate(&payees)?;
    let (provider, deployment, _) = connection.writer().await?;
    let agents = IERC721::new(deployment.agent_registry, &provider);
    match agents.ownerOf(arguments.agent).call().await {
        Ok(_) => {}
        Err(error) if error.as_revert_data().is_some() => bail!(
            "--agent: agent {} does not exist; `auspex agent list` shows those that do, `auspex agent register` makes one",
            arguments.agent
        ),
        Err(error) => return Err(chain::explain(error)).context("look up the agent"),
    }
    let token = Token::named(&provider, &deployment, &arguments.token).await?;
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    let set_hash = registry
        .operatorSetHash(arguments.operator_set)
        .call()
        .await
        .map_err(chain::explain)
        .context("look up the operator set")?;
    if set_hash.is_zero() {
        bail!(
            "--operator-set: set {} has no started epoch; `auspex operator-set start {}` starts one",
            arguments.operator_set,
            arguments.operator_set
        );
    }
    let offer = Offer {
        agentId: arguments.agent,
        token: token.address,
        price: units::parse("--price", &arguments.price, token.decimals)?,
        operatorSetId: arguments.operator_set,
        splitHash: split::split_hash(&payees),
        corpusRoot: arguments.corpus_root,
        modelHash: arguments.model_hash,
        durationMin: arguments.duration_min,
        durationMax: arguments.duration_max,
        challengeWindow: 0,
        referee: Address::ZERO,
    };
    let escrow = IRequestEscrow::new(deployment.request_escrow, &provider);
    let receipt = chain::send(
        escrow.publishOffer(offer.clone(), payees.clone()),
        &provider,
        "publish the offer",
    )
    .await?;
    Ok(Publication {
        offer_hash: terms::offer_hash(&offer),
        offer: OfferDocument::from(&offer),
        split: SplitDocument::from(&payees),
        transaction_hash: receipt.transaction_hash,
        gas_used: receipt.gas_used,
    })
}

/// An offer that the indexer knows.
pub(crate) async fn known_offer(
    connection: &ConnectionArguments,
    offer_hash: B256,
) -> anyhow::Result<OfferView> {
    let indexer = IndexerClient::new(connection.indexer()?)?;
    indexer.offer(offer_hash).await?.with_context(|| {
        format!("offer {offer_hash} is unknown to the indexer; `auspex offer list` shows those that it knows")
    })
}

async fn retire(
    connection: &ConnectionArguments,
    offer_hash: B256,
    output: Output,
) -> anyhow::Result<()> {
    let view = known_offer(connection, offer_hash).await?;
    let (provider, deployment, _) = connection.writer().await?;
    let escrow = IRequestEscrow::new(deployment.request_escrow, &provider);
    let offer = Offer::from(&view.offer);
    let receipt = chain::send(escrow.retireOffer(offer), &provider, "retire the offer").await?;
    let result = serde_json::json!({
        "offerHash": offer_hash,
        "transactionHash": receipt.transaction_hash,
    });
    output.result(&result, |_| {
        format!("retired offer {offer_hash}; requests that are under way are not touched")
    })
}

fn rows(view: &OfferView) -> Vec<(&'static str, String)> {
    let offer = &view.offer;
    let mut rows = vec![
        ("offer", view.offer_hash.to_string()),
        ("active", view.active.to_string()),
        ("agent", offer.agent_id.to_string()),
        ("token", offer.token.to_string()),
        ("price (units)", offer.price.to_string()),
        ("operator set", offer.operator_set_id.to_string()),
        ("corpus root", offer.corpus_root.to_string()),
        ("model hash", offer.model_hash.to_string()),
        ("duration", format!("{} to {} s", offer.duration_min, offer.duration_max)),
    ];
    if let Some(set) = &view.operator_set {
        rows.push(("quorum", format!("{} of {}", set.threshold, set.signers.len())));
    }
    for (recipient, allocation) in
        view.split.iter().flat_map(|split| split.recipients.iter().zip(&split.allocations))
    {
        rows.push(("payee", format!("{recipient} = {allocation}")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payee_is_an_address_and_a_whole_share() {
        let text = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc=70";
        assert_eq!(text.parse::<Payee>().unwrap().share, 70);
        for bad in ["70", "0x99=70", "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc=", "x=1"] {
            assert!(bad.parse::<Payee>().is_err(), "{bad}");
        }
    }
}
