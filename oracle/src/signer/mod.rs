//! The keys in a process of their own. A node asks over a Unix socket; the signer decides by its own policy, writes down
//! what it is about to promise, and only then signs. Whoever takes the node over has neither key, and cannot make the
//! signer contradict itself, spend more than a day's gas, or sign for another chain or contract.
//!
//! Reading order: [`wire`] (what can be asked: there is no request to sign a hash), [`policy`] (what is granted),
//! [`ledger`] (what is written down first), [`vault`] (the two in one thread), [`server`], [`client`].

pub mod client;
pub mod config;
pub mod key;
pub mod kms;
pub mod ledger;
pub mod policy;
pub mod process;
pub mod server;
pub mod vault;
pub mod web3signer;
pub mod wire;
