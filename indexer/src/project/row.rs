//! The rows of the projections as one type, so that state, store and outbox handle all of them alike.

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use super::agent::{Agent, AgentMetadata};
use super::money::{BondCredit, Credit, SettlementCredit, SplitTotal, Withdrawal};
use super::offer::{Offer, Split, SplitShare};
use super::operator::{Bond, Epoch, Operator, OperatorSet, Signer, Slash};
use super::other::{FeePolicy, Token, UndecodableLog, X402Settlement};
use super::reputation::{Feedback, FeedbackResponse, Validation};
use super::request::{Request, RequestNote};

/// A type whose values are the rows of one projection.
pub trait Projection: Clone + PartialEq + Serialize + DeserializeOwned + Into<Row> {
    const KIND: Kind;
    fn from_row(row: &Row) -> Option<&Self>;
}

macro_rules! rows {
    ($($name:ident => $table:literal,)*) => {
        /// Which projection a row belongs to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($name,)*
        }

        /// One version of one entity.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Row {
            $($name(Box<$name>),)*
        }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The projection's table, which is also the entity's name in the outbox.
            pub fn table(self) -> &'static str {
                match self {
                    $(Self::$name => $table,)*
                }
            }
        }

        impl Row {
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$name(_) => Kind::$name,)*
                }
            }

            /// Reads what PostgreSQL's `row_to_json` wrote.
            pub fn from_json(kind: Kind, json: &str) -> serde_json::Result<Self> {
                match kind {
                    $(Kind::$name => serde_json::from_str(json).map(Self::$name),)*
                }
            }
        }

        /// The row's columns as the fields of a struct.
        impl Serialize for Row {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$name(row) => row.serialize(serializer),)*
                }
            }
        }

        $(
            impl From<$name> for Row {
                fn from(row: $name) -> Self {
                    Self::$name(Box::new(row))
                }
            }

            impl Projection for $name {
                const KIND: Kind = Kind::$name;

                fn from_row(row: &Row) -> Option<&Self> {
                    if let Row::$name(row) = row { Some(row) } else { None }
                }
            }
        )*
    };
}

rows! {
    Agent => "agents",
    AgentMetadata => "agent_metadata",
    Feedback => "feedback",
    FeedbackResponse => "feedback_responses",
    Validation => "validations",
    Offer => "offers",
    Split => "splits",
    SplitShare => "split_shares",
    SplitTotal => "split_totals",
    Request => "requests",
    RequestNote => "request_notes",
    SettlementCredit => "settlement_credits",
    Credit => "credits",
    BondCredit => "bond_credits",
    Withdrawal => "withdrawals",
    Operator => "operators",
    Signer => "signers",
    OperatorSet => "operator_sets",
    Epoch => "epochs",
    Bond => "bonds",
    Slash => "slashes",
    Token => "tokens",
    FeePolicy => "fee_policies",
    X402Settlement => "x402_settlements",
    UndecodableLog => "undecodable_logs",
}
