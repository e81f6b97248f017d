//! A transmitter's account as an endpoint tells it.

use alloy::eips::BlockId;
use alloy::primitives::Address;
use alloy::providers::ext::AnvilApi;
use alloy::providers::{Provider, ProviderBuilder};
use auspex_devnet::anvil::{AnvilOptions, accounts};
use auspex_oracle::chain::Chain;
use auspex_oracle::config::SecretUrl;
use auspex_protocol::deployment::Deployment;

use crate::scene::chain::anvil;

/// More blocks than lie between the latest and the safe one.
const BLOCKS: u64 = 80;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_without_the_safe_blocks_state_still_tells_what_sending_needs() {
    let directory = tempfile::tempdir().unwrap();
    let options = AnvilOptions {
        state_file: Some(directory.path().join("chain.json")),
        ..AnvilOptions::for_tests()
    };
    let first = anvil(options.clone()).await;
    let provider = ProviderBuilder::new().connect_http(first.http_url());
    provider.anvil_mine(Some(BLOCKS), None).await.unwrap();
    first.stop().await;

    let second = anvil(options).await;
    let provider = ProviderBuilder::new().connect_http(second.http_url());
    let address = accounts::signers()[0].address();
    let of_safe = provider.get_transaction_count(address).block_id(BlockId::safe()).await;
    assert!(of_safe.is_err(), "this anvil has the safe block's state, so the test shows nothing");

    // Reading an account needs no contract.
    let deployment = Deployment {
        chain_id: second.chain_id(),
        start_block: 0,
        agent_registry: Address::ZERO,
        operator_registry: Address::ZERO,
        entry_policy: Address::ZERO,
        request_escrow: Address::ZERO,
        platform_token: None,
        reputation_registry: None,
        validation_registry: None,
    };
    let chain = Chain::new(&[SecretUrl::new(second.http_url())], deployment);
    let account = chain.account(address).await.unwrap();
    assert_eq!((account.latest_nonce, account.safe_nonce), (0, 0));
    assert!(account.balance > 0);
}
