//! Runs a plan in one snapshot, so that `_meta` and all rows of one answer belong together.

use std::time::Instant;

use async_graphql::Value;
use sqlx::{PgConnection, Row};

use super::argument::View;
use super::error::{Failure, Refusal};
use super::filter::scalar;
use super::head::{self, Head};
use super::plan::{Item, Read, Root};
use super::sql::{Scope, Writer};
use super::{connection, meta};
use crate::entity::{Entity, Kind};
use crate::serve::limits::{ANSWER_BYTES_MAX, STATEMENT_TIME_MAX};

/// The answer to one root field, as JSON text.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) key: String,
    /// `None` for what async-graphql has answered.
    pub(super) json: Option<String>,
}

/// What a run brings: the parts in their order, and whether data was withheld because indexing has stopped.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) parts: Vec<Part>,
    pub(super) withheld: bool,
}

/// Runs the plan of one query on one chain.
pub(super) async fn run(
    database: &mut PgConnection,
    chain_id: i64,
    deployment: &str,
    roots: &[Root],
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let head = head::read(database, chain_id).await?;
    let mut running = Running { database, chain_id, deployment, head, withheld: false };
    let mut parts = Vec::with_capacity(roots.len());
    let mut bytes = 0_usize;
    for root in roots {
        // Each statement has its own limit in the database; this one keeps many slow ones from adding up.
        if STATEMENT_TIME_MAX < started.elapsed() {
            return Err(Refusal::Time.into());
        }
        let json = running.root(root).await.map_err(|refusal| Failure {
            refusal,
            position: Some(root.position),
            key: Some(root.key.clone()),
        })?;
        bytes += json.as_ref().map_or(0, String::len);
        if ANSWER_BYTES_MAX < bytes {
            return Err(Refusal::AnswerBytes.into());
        }
        parts.push(Part { key: root.key.clone(), json });
    }
    Ok(Outcome { parts, withheld: running.withheld })
}

struct Running<'a> {
    database: &'a mut PgConnection,
    chain_id: i64,
    deployment: &'a str,
    head: Head,
    withheld: bool,
}

impl Running<'_> {
    async fn root(&mut self, root: &Root) -> Result<Option<String>, Refusal> {
        match &root.read {
            Read::Introspection => Ok(None),
            Read::Typename => Ok(Some("\"Query\"".to_owned())),
            Read::Meta { view, fields } => {
                let block = self.block(view).await?;
                meta::read(
                    self.database,
                    self.chain_id,
                    self.deployment,
                    &self.head,
                    view,
                    block,
                    fields,
                )
                .await
                .map(Some)
            }
            Read::One { view, entity, id, items } => match self.scope(view).await? {
                None => Ok(Some("null".to_owned())),
                Some(scope) => self.one(scope, entity, id, items).await.map(Some),
            },
            Read::Many { view, collection } => match self.scope(view).await? {
                None => Ok(Some("null".to_owned())),
                Some(scope) => {
                    let mut writer = Writer::new(scope);
                    writer.many(collection);
                    let row = writer.query.build().fetch_one(&mut *self.database).await?;
                    Ok(Some(row.try_get("rows")?))
                }
            },
            Read::Connection { view, connection } => match self.scope(view).await? {
                None => Ok(Some("null".to_owned())),
                Some(scope) => connection::read(self.database, scope, connection).await.map(Some),
            },
        }
    }

    async fn one(
        &mut self,
        scope: Scope,
        entity: &'static Entity,
        id: &Value,
        items: &[Item],
    ) -> Result<String, Refusal> {
        let mut writer = one(scope, entity, id, items)?;
        let row = writer.query.build().fetch_optional(&mut *self.database).await?;
        match row {
            Some(row) => Ok(row.try_get("row")?),
            None => Ok("null".to_owned()),
        }
    }

    /// Where a root field reads; `None` when its data is withheld. A wrong block is called wrong first.
    async fn scope(&mut self, view: &View) -> Result<Option<Scope>, Refusal> {
        let block = self.block(view).await?;
        if self.head.halted && !view.errors_allowed {
            self.withheld = true;
            return Ok(None);
        }
        Ok(Some(Scope {
            chain_id: self.chain_id,
            // The newest versions are found by their open end, which has an index.
            block: (block != self.head.number).then_some(block),
            safe: self.head.safe,
            finalized: self.head.finalized,
        }))
    }

    async fn block(&mut self, view: &View) -> Result<i64, Refusal> {
        head::resolve(self.database, self.chain_id, self.deployment, &self.head, view).await
    }
}

/// The statement that reads the row with this id.
pub(super) fn one(
    scope: Scope,
    entity: &'static Entity,
    id: &Value,
    items: &[Item],
) -> Result<Writer, Refusal> {
    let id = scalar(&Kind::Id, "id", id)?;
    let mut writer = Writer::new(scope);
    writer.one(entity, &id, items);
    Ok(writer)
}
