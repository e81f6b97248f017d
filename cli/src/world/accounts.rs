//! The world's people. Their keys are anvil's public development keys: never send anything of value to them. They are kept
//! in encrypted keystores all the same, so that every command works here as it works elsewhere.

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use auspex_devnet::anvil::accounts;
use auspex_oracle::keys::keystore::Strength;
use auspex_oracle::keys::{file, keystore, password};
use secrecy::SecretString;

use crate::connection::WorldAccount;
use crate::world::layout::Layout;

/// The name of each of anvil's ten accounts, in their order.
const NAMES: [&str; 10] = [
    "deployer",
    "operator-1",
    "operator-2",
    "operator-3",
    "requester",
    "payee-1",
    "payee-2",
    "payee-3",
    "bystander",
    "agent",
];

/// The accounts with their keystores.
#[derive(Debug)]
pub(crate) struct Accounts {
    entries: Vec<WorldAccount>,
}

impl Accounts {
    /// Makes the keystores of a new world, or finds those of an old one.
    pub(crate) fn open_or_create(layout: &Layout) -> anyhow::Result<Self> {
        let password_path = layout.password_file();
        if !password_path.exists() {
            let password = format!("{:032x}", rand::random::<u128>());
            file::write_secret(&password_path, password.as_bytes())?;
        }
        let password: SecretString = password::from_file(&password_path)?;
        let mut entries = Vec::with_capacity(NAMES.len());
        for (name, key) in NAMES.into_iter().zip(accounts::signers()) {
            let keystore = layout.keys().join(format!("{name}.json"));
            if !keystore.exists() {
                keystore::import(&keystore, &key.to_bytes().0, &password, Strength::Light)?;
            }
            entries.push(WorldAccount { name: name.to_owned(), address: key.address(), keystore });
        }
        Ok(Self { entries })
    }

    pub(crate) fn entries(&self) -> &[WorldAccount] {
        &self.entries
    }

    pub(crate) fn address(&self, name: &str) -> anyhow::Result<Address> {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        entry.map(|entry| entry.address).ok_or_else(|| anyhow::anyhow!("no account {name}"))
    }
}

/// The account that deploys the contracts and gives out gas.
pub(crate) fn deployer() -> PrivateKeySigner {
    let [deployer, ..] = accounts::signers();
    deployer
}
