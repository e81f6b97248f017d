//! The signer's configuration, from flags and environment variables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use alloy::primitives::Address;

use crate::config::{SecretUrl, TokenAmount};
use crate::signer::kms::options::{KmsKeyId, KmsService};
use crate::signer::policy::Limits;

/// Where the two hot keys are: each in an encrypted keystore, behind a remote signer, or in AWS KMS.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct KeyOptions {
    /// Encrypted keystore (version 3, mode 0400) of the key that signs results.
    #[arg(long, env = "AUSPEX_SIGNER_KEYSTORE")]
    pub signer_keystore: Option<PathBuf>,

    /// File (mode 0400) with its password; otherwise a systemd credential or a prompt.
    #[arg(long, env = "AUSPEX_SIGNER_PASSWORD_FILE")]
    pub signer_password_file: Option<PathBuf>,

    /// Encrypted keystore (version 3, mode 0400) of the key that pays gas.
    #[arg(long, env = "AUSPEX_TRANSMITTER_KEYSTORE")]
    pub transmitter_keystore: Option<PathBuf>,

    /// File (mode 0400) with its password; otherwise a systemd credential or a prompt.
    #[arg(long, env = "AUSPEX_TRANSMITTER_PASSWORD_FILE")]
    pub transmitter_password_file: Option<PathBuf>,

    /// A remote signer that speaks web3signer's `eth1` API, for keys that are given by address.
    #[arg(long, env = "AUSPEX_WEB3SIGNER_URL", hide_env_values = true)]
    pub web3signer_url: Option<SecretUrl>,

    /// Address of the result-signing key at the remote signer, instead of a keystore.
    #[arg(
        long,
        env = "AUSPEX_WEB3SIGNER_SIGNER",
        requires = "web3signer_url",
        conflicts_with = "signer_keystore"
    )]
    pub web3signer_signer: Option<Address>,

    /// Address of the transmitter at the remote signer, instead of a keystore.
    #[arg(
        long,
        env = "AUSPEX_WEB3SIGNER_TRANSMITTER",
        requires = "web3signer_url",
        conflicts_with = "transmitter_keystore"
    )]
    pub web3signer_transmitter: Option<Address>,

    /// The region of AWS KMS, for keys that are given by their id there. The credentials are found as AWS's own tools find
    /// them: keys in the environment, a web identity, the container's role, the instance's role.
    #[arg(long, env = "AWS_REGION")]
    pub kms_region: Option<String>,

    /// Another address of that KMS, such as a VPC endpoint.
    #[arg(long, env = "AWS_ENDPOINT_URL_KMS", hide_env_values = true)]
    pub kms_endpoint: Option<SecretUrl>,

    /// Id, ARN or alias of the result-signing key in AWS KMS (spec ECC_SECG_P256K1), instead of a keystore.
    #[arg(
        long,
        env = "AUSPEX_KMS_SIGNER",
        requires = "kms_region",
        conflicts_with_all = ["signer_keystore", "web3signer_signer"]
    )]
    pub kms_signer: Option<KmsKeyId>,

    /// Id, ARN or alias of the transmitter in AWS KMS, instead of a keystore.
    #[arg(
        long,
        env = "AUSPEX_KMS_TRANSMITTER",
        requires = "kms_region",
        conflicts_with_all = ["transmitter_keystore", "web3signer_transmitter"]
    )]
    pub kms_transmitter: Option<KmsKeyId>,

    /// Where systemd put the credentials of this service.
    #[arg(long, env = "CREDENTIALS_DIRECTORY", hide = true)]
    pub credentials_directory: Option<PathBuf>,
}

/// Where one of the two keys is, as far as the options say.
#[derive(Debug, Clone, Copy)]
pub struct KeyPlace<'a> {
    /// `signer` or `transmitter`.
    pub role: &'static str,
    pub keystore: Option<&'a Path>,
    pub password_file: Option<&'a Path>,
    pub web3signer: Option<Address>,
    pub kms: Option<&'a KmsKeyId>,
}

impl KeyOptions {
    /// Where the result signer and the transmitter are.
    pub fn places(&self) -> [KeyPlace<'_>; 2] {
        [
            KeyPlace {
                role: "signer",
                keystore: self.signer_keystore.as_deref(),
                password_file: self.signer_password_file.as_deref(),
                web3signer: self.web3signer_signer,
                kms: self.kms_signer.as_ref(),
            },
            KeyPlace {
                role: "transmitter",
                keystore: self.transmitter_keystore.as_deref(),
                password_file: self.transmitter_password_file.as_deref(),
                web3signer: self.web3signer_transmitter,
                kms: self.kms_transmitter.as_ref(),
            },
        ]
    }

    /// True when nothing says where a key is.
    pub fn is_empty(&self) -> bool {
        self.places().iter().all(|place| {
            place.keystore.is_none() && place.web3signer.is_none() && place.kms.is_none()
        })
    }

    /// The KMS that the options name, with the credentials that this process's environment names.
    pub fn kms(&self) -> anyhow::Result<KmsService> {
        let region = self.kms_region.as_deref().unwrap_or_default();
        KmsService::find(region, self.kms_endpoint.as_ref(), |name| std::env::var(name).ok())
    }

    /// The same options as another process takes them. None of them is a secret, except the URLs of a remote signer and of
    /// a KMS, which are left out: an argument is visible to others, so they travel in the environment.
    pub fn arguments(&self) -> Vec<OsString> {
        let paths = [
            ("--signer-keystore", &self.signer_keystore),
            ("--signer-password-file", &self.signer_password_file),
            ("--transmitter-keystore", &self.transmitter_keystore),
            ("--transmitter-password-file", &self.transmitter_password_file),
        ];
        let addresses = [
            ("--web3signer-signer", self.web3signer_signer),
            ("--web3signer-transmitter", self.web3signer_transmitter),
        ];
        let names = [
            ("--kms-region", self.kms_region.as_deref()),
            ("--kms-signer", self.kms_signer.as_ref().map(KmsKeyId::as_str)),
            ("--kms-transmitter", self.kms_transmitter.as_ref().map(KmsKeyId::as_str)),
        ];
        let mut arguments = Vec::new();
        for (option, name) in names {
            if let Some(name) = name {
                arguments.extend([OsString::from(option), name.into()]);
            }
        }
        for (option, path) in paths {
            if let Some(path) = path {
                arguments.extend([OsString::from(option), path.clone().into_os_string()]);
            }
        }
        for (option, address) in addresses {
            if let Some(address) = address {
                arguments.extend([OsString::from(option), address.to_string().into()]);
            }
        }
        arguments
    }
}

/// A signer's configuration.
#[derive(Debug, Clone, clap::Args)]
pub struct SignerConfig {
    #[command(flatten)]
    pub keys: KeyOptions,

    /// The socket on which nodes ask; its folder is made with mode 0700 when it is missing.
    #[arg(long, env = "AUSPEX_SIGNER_SOCKET")]
    pub socket: PathBuf,

    /// The log of everything promised. It is what keeps this signer from contradicting itself: back it up, never cut it.
    #[arg(long, env = "AUSPEX_SIGNER_LOG")]
    pub log: PathBuf,

    #[command(flatten)]
    pub limits: LimitOptions,
}

/// How much a signer grants, whoever asks.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitOptions {
    /// Most results in a minute.
    #[arg(long, env = "AUSPEX_SIGNER_RESULTS_PER_MINUTE", default_value = "600")]
    pub results_per_minute: usize,

    /// Most results in 24 hours.
    #[arg(long, env = "AUSPEX_SIGNER_RESULTS_PER_DAY", default_value = "100000")]
    pub results_per_day: usize,

    /// Most messages to other operators in a minute.
    #[arg(long, env = "AUSPEX_SIGNER_MESSAGES_PER_MINUTE", default_value = "1800")]
    pub messages_per_minute: usize,

    /// Most parts of unfinished answers in a minute. They have a limit of their own, so that they never cost a message.
    #[arg(long, env = "AUSPEX_SIGNER_PARTIALS_PER_MINUTE", default_value = "1200")]
    pub partials_per_minute: usize,

    /// Most transactions in a minute, raised and cancelled ones included.
    #[arg(long, env = "AUSPEX_SIGNER_TRANSACTIONS_PER_MINUTE", default_value = "1200")]
    pub transactions_per_minute: usize,

    /// Most wei per gas of a transaction.
    #[arg(long = "fee-cap", env = "AUSPEX_SIGNER_FEE_CAP", default_value = "50000000000")]
    pub fee_cap: u128,

    /// Most wei of gas that the transactions of 24 hours can cost, counted at the fees and the gas that they offer, which
    /// is about twice of what they use.
    #[arg(long, env = "AUSPEX_SIGNER_GAS_PER_DAY", default_value = "500000000000000000")]
    pub gas_per_day: u128,

    /// Most of a token that the results of 24 hours may settle, as TOKEN=AMOUNT in its smallest unit. The zero address is
    /// the native coin. Other tokens are not limited.
    #[arg(long, env = "AUSPEX_SIGNER_VALUE_PER_DAY", value_delimiter = ',')]
    pub value_per_day: Vec<TokenAmount>,
}

impl From<&LimitOptions> for Limits {
    fn from(options: &LimitOptions) -> Self {
        Self {
            results_per_minute: options.results_per_minute,
            results_per_day: options.results_per_day,
            messages_per_minute: options.messages_per_minute,
            partials_per_minute: options.partials_per_minute,
            transactions_per_minute: options.transactions_per_minute,
            fee_cap: options.fee_cap,
            gas_per_day: options.gas_per_day,
            value_per_day: options.value_per_day.clone(),
        }
    }
}
