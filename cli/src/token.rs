//! Tokens as people name them: an address, or `ETH` for the chain's native coin, or the platform token's symbol.

use alloy::primitives::{Address, U256};
use alloy::providers::DynProvider;
use anyhow::{Context, bail};
use auspex_protocol::bindings::IERC20;
use auspex_protocol::deployment::Deployment;

use crate::chain::explain;
use crate::units;

/// The native coin's name on the command line; in contracts it is the zero address.
pub(crate) const NATIVE: &str = "ETH";
const NATIVE_DECIMALS: u8 = 18;

/// A token with what it takes to read and print its amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) address: Address,
    pub(crate) symbol: String,
    pub(crate) decimals: u8,
}

impl Token {
    /// Looks a token up by address.
    pub(crate) async fn at(provider: &DynProvider, address: Address) -> anyhow::Result<Self> {
        if address.is_zero() {
            return Ok(Self { address, symbol: NATIVE.to_owned(), decimals: NATIVE_DECIMALS });
        }
        let contract = IERC20::new(address, provider);
        let decimals = contract.decimals().call().await.map_err(explain);
        let decimals =
            decimals.with_context(|| format!("token: {address} is not an ERC-20 token"))?;
        // A symbol is optional in ERC-20, and some old tokens return it as bytes32.
        let symbol = contract.symbol().call().await.unwrap_or_else(|_| address.to_string());
        Ok(Self { address, symbol, decimals })
    }

    /// Looks a token up by what a person wrote.
    pub(crate) async fn named(
        provider: &DynProvider,
        deployment: &Deployment,
        name: &str,
    ) -> anyhow::Result<Self> {
        if name.eq_ignore_ascii_case(NATIVE) || name.eq_ignore_ascii_case("native") {
            return Self::at(provider, Address::ZERO).await;
        }
        if let Ok(address) = name.parse::<Address>() {
            return Self::at(provider, address).await;
        }
        if let Some(address) = deployment.platform_token {
            let token = Self::at(provider, address).await?;
            if token.symbol.eq_ignore_ascii_case(name) {
                return Ok(token);
            }
            bail!("token: {name:?} is neither an address, {NATIVE}, nor {}", token.symbol);
        }
        bail!("token: {name:?} is neither an address nor {NATIVE}")
    }

    pub(crate) fn is_native(&self) -> bool {
        self.address.is_zero()
    }

    pub(crate) fn show(&self, amount: U256) -> String {
        units::show(amount, self.decimals, &self.symbol)
    }
}
