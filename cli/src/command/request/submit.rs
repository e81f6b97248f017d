//! Submitting a request: building its terms from the offer and today's fee, paying, and knowing its id beforehand.

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::DynProvider;
use alloy::signers::SignerSync;
use alloy::sol;
use alloy::sol_types::{Eip712Domain, SolStruct};
use anyhow::{Context, bail};
use auspex_protocol::bindings::IRequestEscrow::{self, Offer, Request};
use auspex_protocol::bindings::{IERC20, IEntryPolicy, IOperatorRegistry};
use auspex_protocol::deployment::Deployment;
use auspex_protocol::limits::INPUT_BYTES_MAX;
use auspex_protocol::terms;
use serde::Serialize;

use crate::chain;
use crate::command::offer::known_offer;
use crate::command::request::{Payment, SubmitArguments, offer_of};
use crate::connection::ConnectionArguments;
use crate::token::Token;
use crate::wallet::Wallet;

/// A request that is funded on chain.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Submission {
    pub(crate) request_id: B256,
    pub(crate) payer: Address,
    pub(crate) deadline: u64,
    pub(crate) transaction_hash: B256,
    pub(crate) block_number: u64,
    pub(crate) gas_used: u64,
}

sol! {
    // EIP-3009; the field names are part of what is signed.
    struct ReceiveWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }
}

/// Pays for a request with the chosen key.
pub(crate) async fn submit(
    connection: &ConnectionArguments,
    arguments: &SubmitArguments,
) -> anyhow::Result<Submission> {
    let input = read_input(&arguments.input)?;
    let view = known_offer(connection, arguments.offer).await?;
    let offer = offer_of(&view);
    let (provider, deployment, wallet) = connection.writer().await?;
    let escrow = IRequestEscrow::new(deployment.request_escrow, &provider);
    let active = escrow.isOfferActive(arguments.offer).call().await.map_err(chain::explain)?;
    if !active {
        bail!(
            "--offer: {} takes no requests any more; `auspex offer list` shows active ones",
            arguments.offer
        );
    }
    let terms = build_terms(&provider, &deployment, &wallet, &offer, arguments, &input).await?;
    let domain = terms::escrow_domain(deployment.chain_id, deployment.request_escrow);
    let request_id = terms::request_id(&domain, &terms);
    let deadline = terms.deadline.to::<u64>();
    let token = Token::at(&provider, offer.token).await?;
    check_balance(&provider, &wallet, &token, terms.maxAmount).await?;
    let input = Bytes::from(input);
    let what = "submit the request";
    let receipt = match arguments.pay {
        Payment::Direct => {
            let value = if token.is_native() { U256::from(terms.maxAmount) } else { U256::ZERO };
            if !token.is_native() {
                raise_allowance(&provider, &deployment, &wallet, &token, terms.maxAmount).await?;
            }
            chain::send(escrow.request(terms, offer, input).value(value), &provider, what).await?
        }
        Payment::Authorization => {
            if token.is_native() {
                bail!(
                    "--pay authorization: EIP-3009 is a token's function; pay {} with --pay direct",
                    token.symbol
                );
            }
            let valid_before = U256::from(deadline);
            let authorization = ReceiveWithAuthorization {
                from: wallet.address(),
                to: deployment.request_escrow,
                value: U256::from(terms.maxAmount),
                validAfter: U256::ZERO,
                validBefore: valid_before,
                nonce: request_id,
            };
            let token_domain = token_domain(&provider, &deployment, &token).await?;
            let digest = authorization.eip712_signing_hash(&token_domain);
            let signature = wallet.signer().sign_hash_sync(&digest).context("sign the payment")?;
            let call = escrow.requestWithAuthorization(
                terms,
                offer,
                input,
                U256::ZERO,
                valid_before,
                signature.as_bytes().into(),
            );
            chain::send(call, &provider, what).await?
        }
    };
    Ok(Submission {
        request_id,
        payer: wallet.address(),
        deadline,
        transaction_hash: receipt.transaction_hash,
        block_number: receipt.block_number.unwrap_or_default(),
        gas_used: receipt.gas_used,
    })
}

fn read_input(text: &str) -> anyhow::Result<Vec<u8>> {
    let input = match text.strip_prefix('@') {
        Some(path) => std::fs::read(path).with_context(|| format!("--input: read {path}"))?,
        None => text.as_bytes().to_vec(),
    };
    if input.is_empty() {
        bail!("--input: is empty");
    }
    if INPUT_BYTES_MAX < input.len() {
        bail!("--input: {} bytes, over the limit of {INPUT_BYTES_MAX}", input.len());
    }
    Ok(input)
}

/// How long an answer may take when the requester does not say: the shortest time of an offer leaves operators no room
/// for a restart or a busy chain, and a request that times out costs its payer gas for nothing.
const DURATION_DEFAULT_S: u32 = 300;

async fn build_terms(
    provider: &DynProvider,
    deployment: &Deployment,
    wallet: &Wallet,
    offer: &Offer,
    arguments: &SubmitArguments,
    input: &[u8],
) -> anyhow::Result<Request> {
    let duration = arguments.duration.unwrap_or(
        DURATION_DEFAULT_S.clamp(offer.durationMin, offer.durationMax.max(offer.durationMin)),
    );
    if duration < offer.durationMin || offer.durationMax < duration {
        bail!(
            "--duration: {duration} s, but the offer takes {} to {} s",
            offer.durationMin,
            offer.durationMax
        );
    }
    let policy = IEntryPolicy::new(deployment.entry_policy, provider);
    let entry = policy.entryTerms(offer.token).call().await.map_err(chain::explain)?;
    if !entry.allowed {
        bail!("token: {} is not allowed for new requests", offer.token);
    }
    let registry = IOperatorRegistry::new(deployment.operator_registry, provider);
    let operator_set_hash =
        registry.operatorSetHash(offer.operatorSetId).call().await.map_err(chain::explain)?;
    let (now, _) = chain::head(provider).await?;
    // The escrow measures the duration from the block that includes the request, which is later than `now`: the shortest
    // duration needs the margin that one or two blocks take.
    const INCLUSION_MARGIN_S: u64 = 4;
    let margin = if duration < offer.durationMax { INCLUSION_MARGIN_S } else { 0 };
    let deadline = now + u64::from(duration) + margin.min(u64::from(offer.durationMax - duration));
    Ok(Request {
        payer: wallet.address(),
        agentId: offer.agentId,
        offerHash: arguments.offer,
        operatorSetHash: operator_set_hash,
        splitHash: offer.splitHash,
        token: offer.token,
        maxAmount: offer.price,
        feeBps: entry.feeBps,
        feeRecipient: entry.feeRecipient,
        deadline: deadline.try_into().context("--duration: the deadline is over 2^40 seconds")?,
        challengeWindow: offer.challengeWindow,
        referee: offer.referee,
        callback: Address::ZERO,
        callbackGas: 0,
        inputHash: terms::input_hash(input),
        salt: chain::random_salt(),
    })
}

async fn check_balance(
    provider: &DynProvider,
    wallet: &Wallet,
    token: &Token,
    amount: u128,
) -> anyhow::Result<()> {
    use alloy::providers::Provider;
    let balance = if token.is_native() {
        provider.get_balance(wallet.address()).await.context("read the balance")?
    } else {
        let contract = IERC20::new(token.address, provider);
        contract.balanceOf(wallet.address()).call().await.map_err(chain::explain)?
    };
    if balance < U256::from(amount) {
        bail!(
            "{} holds {}, but the request costs {}",
            wallet.address(),
            token.show(balance),
            token.show(U256::from(amount))
        );
    }
    Ok(())
}

async fn raise_allowance(
    provider: &DynProvider,
    deployment: &Deployment,
    wallet: &Wallet,
    token: &Token,
    amount: u128,
) -> anyhow::Result<()> {
    let contract = IERC20::new(token.address, provider);
    let escrow = deployment.request_escrow;
    let allowance =
        contract.allowance(wallet.address(), escrow).call().await.map_err(chain::explain)?;
    if U256::from(amount) <= allowance {
        return Ok(());
    }
    // Exactly what is due: an unlimited allowance would outlive this request.
    chain::send(contract.approve(escrow, U256::from(amount)), provider, "approve the payment")
        .await?;
    Ok(())
}

/// The token's EIP-712 domain, checked against the separator that the token itself reports.
async fn token_domain(
    provider: &DynProvider,
    deployment: &Deployment,
    token: &Token,
) -> anyhow::Result<Eip712Domain> {
    sol! {
        #[sol(rpc)]
        interface IERC5267Domain {
            function DOMAIN_SEPARATOR() external view returns (bytes32);
            function version() external view returns (string);
        }
    }
    let name = IERC20::new(token.address, provider).name().call().await.map_err(chain::explain)?;
    let contract = IERC5267Domain::new(token.address, provider);
    let separator = contract.DOMAIN_SEPARATOR().call().await.map_err(|_| {
        anyhow::anyhow!(
            "--pay authorization: {} does not speak EIP-712; use --pay direct",
            token.symbol
        )
    })?;
    let version = contract.version().call().await.unwrap_or_else(|_| "1".to_owned());
    let domain = Eip712Domain::new(
        Some(name.into()),
        Some(version.into()),
        Some(U256::from(deployment.chain_id)),
        Some(token.address),
        None,
    );
    if domain.separator() != separator {
        bail!(
            "--pay authorization: {} has an unusual EIP-712 domain; use --pay direct",
            token.symbol
        );
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_over_the_limit_is_refused_before_anything_is_paid() {
        let error = read_input(&"x".repeat(INPUT_BYTES_MAX + 1)).unwrap_err().to_string();
        assert_eq!(error, "--input: 8193 bytes, over the limit of 8192");
        assert_eq!(read_input("").unwrap_err().to_string(), "--input: is empty");
        assert_eq!(read_input(&"x".repeat(INPUT_BYTES_MAX)).unwrap().len(), INPUT_BYTES_MAX);
    }
}
