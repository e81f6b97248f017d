//! `_meta`: the block that an answer is about.

use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::argument::{Block, View};
use super::error::Refusal;
use super::head::Head;
use super::plan::{BlockField, MetaField};
use crate::serve::parameter::Finality;

/// Answers `_meta` for the block that its view means.
pub(super) async fn read(
    database: &mut PgConnection,
    chain_id: i64,
    deployment: &str,
    head: &Head,
    view: &View,
    number: i64,
    fields: &[MetaField],
) -> Result<String, Refusal> {
    let known = sqlx::query!(
        "select hash, parent_hash, time from indexer.blocks where chain_id = $1 and number = $2",
        chain_id,
        number,
    )
    .fetch_optional(database)
    .await?;
    // graph-node cannot know the hash of a block that was named by its number, and says null; clients rely on it.
    let by_number = matches!(view.block, Block::Number(_));
    let newest = number == head.number;
    let hex = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    let hash = match (&view.block, view.finality) {
        (Block::Hash(hash), Finality::Latest) => Some(hex(hash)),
        _ if by_number => None,
        _ if newest => Some(hex(&head.hash)),
        _ => known.as_ref().map(|block| hex(&block.hash)),
    };
    let time = if newest { Some(head.time) } else { known.as_ref().map(|block| block.time) };
    let parent = known.as_ref().map(|block| hex(&block.parent_hash));
    let finality = if number <= head.finalized {
        "finalized"
    } else if number <= head.safe {
        "safe"
    } else {
        "latest"
    };

    let mut answer = Map::new();
    for field in fields {
        let (key, value) = match field {
            MetaField::Typename(key) => (key, json!("_Meta_")),
            MetaField::Deployment(key) => (key, json!(deployment)),
            MetaField::HasIndexingErrors(key) => (key, json!(head.halted)),
            MetaField::Block(key, parts) => {
                let parts = parts.iter().map(|(key, part)| {
                    let value = match part {
                        BlockField::Typename => json!("_Block_"),
                        BlockField::Hash => json!(hash),
                        BlockField::Number => json!(number),
                        BlockField::Timestamp => json!(time),
                        BlockField::ParentHash => json!(parent),
                        BlockField::Finality => json!(finality),
                    };
                    (key.clone(), value)
                });
                (key, Value::Object(parts.collect()))
            }
        };
        answer.insert(key.clone(), value);
    }
    Ok(Value::Object(answer).to_string())
}
