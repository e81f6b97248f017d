//! The node's configuration: one structure, from flags and environment variables. Secrets never show in its `Debug`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use alloy::primitives::Address;
use secrecy::SecretString;
use url::Url;

use crate::limits::{ENDPOINTS_MAX, WORKERS_MAX};

/// The chain id of anvil, the only chain on which plain keys are taken.
pub const DEV_CHAIN_ID: u64 = 31337;

/// Settings of one oracle node.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// PostgreSQL database of this operator; it belongs to no other operator. A private one is started when none is given.
    #[arg(long, env = "AUSPEX_ORACLE_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretUrl>,

    /// RPC endpoints of the chain, in the order in which they are tried.
    #[arg(
        long = "rpc-url",
        env = "AUSPEX_RPC_URL",
        hide_env_values = true,
        value_delimiter = ',',
        required = true
    )]
    pub rpc_urls: Vec<SecretUrl>,

    /// The indexer that lists requests, carries operators' messages and keeps answers.
    #[arg(long, env = "AUSPEX_INDEXER_URL", hide_env_values = true)]
    pub indexer_url: SecretUrl,

    /// MQTT broker, `mqtt://host:port` or `mqtts://host:port`, with `user@` where it wants one. Without a broker the node
    /// works over the indexer alone.
    #[arg(long, env = "AUSPEX_BROKER_URL", hide_env_values = true)]
    pub broker_url: Option<SecretUrl>,

    /// File (mode 0400) with the broker's password.
    #[arg(long, env = "AUSPEX_BROKER_PASSWORD_FILE")]
    pub broker_password_file: Option<PathBuf>,

    /// The processes that share this operator's database divide the broker's messages among them instead of each reading
    /// all. The broker has to know shared subscriptions (`$share/...`); with one that does not, each reads all anyway.
    #[arg(long, env = "AUSPEX_BROKER_SHARE")]
    pub broker_share: bool,

    /// PEM file of the authority that signed the broker's certificate; the system's authorities without it.
    #[arg(long, env = "AUSPEX_BROKER_CA_FILE")]
    pub broker_ca_file: Option<PathBuf>,

    /// PEM file of our certificate for the broker.
    #[arg(long, env = "AUSPEX_BROKER_CERTIFICATE_FILE", requires = "broker_key_file")]
    pub broker_certificate_file: Option<PathBuf>,

    /// PEM file (mode 0400) of that certificate's key.
    #[arg(long, env = "AUSPEX_BROKER_KEY_FILE", requires = "broker_certificate_file")]
    pub broker_key_file: Option<PathBuf>,

    /// The contracts' addresses: a file, or a public network by its name, such as `base-sepolia`.
    #[arg(long, env = "AUSPEX_DEPLOYMENT", value_name = "FILE|NETWORK")]
    pub deployment: PathBuf,

    /// The account that registered this operator.
    #[arg(long, env = "AUSPEX_OPERATOR_OWNER")]
    pub owner: Address,

    /// Socket of the signer that holds this operator's keys: `auspex operator signer`.
    #[arg(long, env = "AUSPEX_SIGNER_SOCKET")]
    pub signer_socket: Option<PathBuf>,

    /// Takes plain keys. Only on chain 31337.
    #[arg(long, hide = true)]
    pub insecure_dev_keys: bool,

    /// A plain result-signing key for a development chain.
    #[arg(long, env = "AUSPEX_SIGNER_INSECURE_KEY", hide = true, hide_env_values = true)]
    pub signer_insecure_key: Option<SecretString>,

    /// A plain transmitter key for a development chain.
    #[arg(long, env = "AUSPEX_TRANSMITTER_INSECURE_KEY", hide = true, hide_env_values = true)]
    pub transmitter_insecure_key: Option<SecretString>,

    /// Address of `/health`, `/ready`, `/metrics` and `/v1/status`.
    #[arg(long, env = "AUSPEX_ORACLE_LISTEN", default_value = "127.0.0.1:9464")]
    pub listen: SocketAddr,

    /// The corpus for requests whose offer pins none.
    #[arg(long, env = "AUSPEX_ORACLE_CORPUS")]
    pub corpus: Option<String>,

    /// Requests that are worked on at the same time.
    #[arg(long, env = "AUSPEX_ORACLE_WORKERS", default_value = "4", value_parser = workers)]
    pub workers: usize,

    /// How often the chain's head is read, in milliseconds.
    #[arg(long = "head-interval-ms", env = "AUSPEX_ORACLE_HEAD_INTERVAL_MS", default_value = "500", value_parser = milliseconds, hide = true)]
    pub head_interval: Duration,

    /// Seconds without a new block after which `/ready` fails.
    #[arg(long, env = "AUSPEX_ORACLE_BLOCK_AGE_MAX", default_value = "60", value_parser = seconds)]
    pub block_age_max: Duration,

    /// How often the indexer is asked for requests that no message announced, in milliseconds.
    #[arg(long = "discovery-interval-ms", env = "AUSPEX_ORACLE_DISCOVERY_INTERVAL_MS", default_value = "1000", value_parser = milliseconds, hide = true)]
    pub discovery_interval: Duration,

    /// Seconds before its deadline from which on a request is not started any more.
    #[arg(long, env = "AUSPEX_ORACLE_ANSWER_MARGIN", default_value = "15")]
    pub answer_margin: u64,

    /// Seconds before its deadline from which on a request is not delivered any more.
    #[arg(long, env = "AUSPEX_ORACLE_DELIVERY_MARGIN", default_value = "4")]
    pub delivery_margin: u64,

    /// Milliseconds that each operator leaves the delivery to the one before it.
    #[arg(long = "takeover-ms", env = "AUSPEX_ORACLE_TAKEOVER_MS", default_value = "8000", value_parser = milliseconds)]
    pub takeover: Duration,

    /// Least milliseconds between two parts of an unfinished answer, which the request's leader signs and publishes while a
    /// model writes; 0 publishes none.
    #[arg(long = "partial-interval-ms", env = "AUSPEX_ORACLE_PARTIAL_INTERVAL_MS", default_value = "500", value_parser = milliseconds_or_none)]
    pub partial_interval: Duration,

    /// Most wei per gas that is ever offered.
    #[arg(long, env = "AUSPEX_ORACLE_FEE_CAP", default_value = "50000000000", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    pub fee_cap: u64,

    /// Most wei that may be spent on gas in 24 hours.
    #[arg(long, env = "AUSPEX_ORACLE_GAS_BUDGET", default_value = "100000000000000000")]
    pub gas_budget: u128,

    /// Milliseconds after which a transaction that was not mined is offered more gas.
    #[arg(long = "raise-after-ms", env = "AUSPEX_ORACLE_RAISE_AFTER_MS", default_value = "6000", value_parser = milliseconds, hide = true)]
    pub raise_after: Duration,

    /// Milliseconds after which a transaction that was not mined is sent again as it is.
    #[arg(long = "resend-after-ms", env = "AUSPEX_ORACLE_RESEND_AFTER_MS", default_value = "3000", value_parser = milliseconds, hide = true)]
    pub resend_after: Duration,

    /// Wait for the `safe` block before work on requests of more than AMOUNT, as TOKEN=AMOUNT in the token's smallest unit.
    /// The zero address is the native coin.
    #[arg(long = "wait-safe-above", env = "AUSPEX_ORACLE_WAIT_SAFE_ABOVE", value_delimiter = ',')]
    pub wait_safe_above: Vec<TokenAmount>,

    /// The same for the `finalized` block.
    #[arg(
        long = "wait-finalized-above",
        env = "AUSPEX_ORACLE_WAIT_FINALIZED_ABOVE",
        value_delimiter = ','
    )]
    pub wait_finalized_above: Vec<TokenAmount>,

    /// Withdraw credits of more than AMOUNT by themselves, as TOKEN=AMOUNT in the token's smallest unit. The transmitter
    /// pays the gas. The zero address is the native coin.
    #[arg(long = "withdraw-above", env = "AUSPEX_ORACLE_WITHDRAW_ABOVE", value_delimiter = ',')]
    pub withdraw_above: Vec<TokenAmount>,

    /// Whose credits are withdrawn, and to whom they are paid; the owner when not given.
    #[arg(long, env = "AUSPEX_ORACLE_WITHDRAW_FOR")]
    pub withdraw_for: Option<Address>,

    /// How often credits are looked at, in milliseconds.
    #[arg(long = "withdraw-interval-ms", env = "AUSPEX_ORACLE_WITHDRAW_INTERVAL_MS", default_value = "60000", value_parser = milliseconds, hide = true)]
    pub withdraw_interval: Duration,

    /// What a token is worth, as TOKEN=WEI/UNITS: so many wei for so many of its smallest units. Requests in a token
    /// with a rate are declined when their delivery would cost more gas than they pay. The native coin needs no rate.
    #[arg(long = "token-rate", env = "AUSPEX_ORACLE_TOKEN_RATE", value_delimiter = ',')]
    pub token_rates: Vec<TokenRate>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("--rpc-url: {0} endpoints, but 1 to {ENDPOINTS_MAX} are allowed")]
    Endpoints(usize),
    #[error(
        "--answer-margin: {answer} s, but it has to be longer than --delivery-margin, {delivery} s"
    )]
    Margins { answer: u64, delivery: u64 },
    #[error("--database-url: no database is given")]
    NoDatabase,
    #[error(
        "--signer-socket: is missing. Start `auspex operator signer` and name its socket, or name the keystores"
    )]
    NoSigner,
    #[error(
        "--signer-socket: the signer there is for escrow {escrow} of chain {chain_id}, but --deployment is another"
    )]
    SignerElsewhere { escrow: Address, chain_id: u64 },
}

impl Config {
    /// Checks what clap cannot check by itself.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let endpoints = self.rpc_urls.len();
        if endpoints == 0 || ENDPOINTS_MAX < endpoints {
            return Err(ConfigError::Endpoints(endpoints));
        }
        if self.answer_margin <= self.delivery_margin {
            let (answer, delivery) = (self.answer_margin, self.delivery_margin);
            return Err(ConfigError::Margins { answer, delivery });
        }
        Ok(())
    }
}

/// A URL that may carry a user, a password or a key. Shows its scheme, host and port only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

impl SecretUrl {
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole URL, for the connection itself.
    pub fn reveal(&self) -> &Url {
        &self.0
    }

    /// A text of somebody else's in which this URL, or a part of it that may be secret, is replaced.
    pub fn redact(&self, text: &str) -> String {
        let url = self.0.as_str();
        let mut redacted = text.replace(url, &self.to_string());
        redacted = redacted.replace(url.trim_end_matches('/'), &self.to_string());
        let parts =
            [self.0.password(), self.0.query(), Some(self.0.path()), Some(self.0.username())];
        for part in parts.into_iter().flatten().filter(|part| 1 < part.len()) {
            redacted = redacted.replace(part, "***");
        }
        redacted
    }
}

impl FromStr for SecretUrl {
    type Err = String;

    /// The error never repeats the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
        if url.host_str().is_none() {
            return Err("not a URL with a host".into());
        }
        Ok(Self(url))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or("?"))?;
        match self.0.port_or_known_default() {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// An amount of a token, `TOKEN=AMOUNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenAmount {
    pub token: Address,
    pub amount: u128,
}

impl FromStr for TokenAmount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (token, amount) = text.split_once('=').ok_or("is not TOKEN=AMOUNT")?;
        let token = token.parse().map_err(|_| format!("{token:?} is not a token's address"))?;
        let amount = amount.parse().map_err(|_| format!("{amount:?} is not an amount"))?;
        Ok(Self { token, amount })
    }
}

/// What a token is worth, `TOKEN=WEI/UNITS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRate {
    pub token: Address,
    pub wei: u128,
    pub units: u128,
}

impl FromStr for TokenRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (token, rate) = text.split_once('=').ok_or("is not TOKEN=WEI/UNITS")?;
        let (wei, units) = rate.split_once('/').ok_or("is not TOKEN=WEI/UNITS")?;
        let token = token.parse().map_err(|_| format!("{token:?} is not a token's address"))?;
        let wei = wei.parse().map_err(|_| format!("{wei:?} is not a number of wei"))?;
        let units = units.parse().map_err(|_| format!("{units:?} is not a number of units"))?;
        if units == 0 {
            return Err("the number of units is zero".into());
        }
        Ok(Self { token, wei, units })
    }
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=WORKERS_MAX).contains(&count) => Ok(count),
        _ => Err(format!("is not a number from 1 to {WORKERS_MAX}")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("is not a positive number of seconds".into()),
        Ok(count) => Ok(Duration::from_secs(count)),
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("is not a positive number of milliseconds".into()),
        Ok(count) => Ok(Duration::from_millis(count)),
    }
}

fn milliseconds_or_none(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_millis).map_err(|_| "is not a number of milliseconds".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_nothing_that_may_be_secret() {
        let text = "https://user:hunter2@rpc.example:8443/v2/CANARY?key=SECRET";
        let url: SecretUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), "https://rpc.example:8443");
        assert_eq!(format!("{url:?}"), "https://rpc.example:8443");
        let error = format!("error sending request for url ({text}): path /v2/CANARY failed");
        let redacted = url.redact(&error);
        for secret in ["hunter2", "CANARY", "SECRET", "user"] {
            assert!(!redacted.contains(secret), "{redacted}");
        }
    }

    #[test]
    fn an_unreadable_url_is_not_repeated() {
        let error = "://user:hunter2@host".parse::<SecretUrl>().unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn rates_and_amounts_say_what_is_wrong() {
        let token = Address::repeat_byte(1);
        let rate: TokenRate = format!("{token}=1000/3").parse().unwrap();
        assert_eq!(rate, TokenRate { token, wei: 1000, units: 3 });
        assert!(format!("{token}=1/0").parse::<TokenRate>().unwrap_err().contains("zero"));
        assert!("x=1/1".parse::<TokenRate>().unwrap_err().contains("token's address"));
        assert!(format!("{token}=-1").parse::<TokenAmount>().unwrap_err().contains("amount"));
    }
}
