//! Rows in the binary form of PostgreSQL's COPY: the fastest way in. Source: PostgreSQL documentation, "COPY", file formats.

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::PgCopyIn;

use super::row::{self, Column};
use super::{StoreError, binary, signed};
use crate::project::row::Row;

/// Bytes that are sent at once: PostgreSQL works on them while the next ones are written. The first ones are fewer, so that
/// it begins early.
const CHUNK_BYTES: usize = 128 * 1024;
const FIRST_CHUNK_BYTES: usize = 8 * 1024;

/// A `copy .. from stdin (format binary)` under way.
pub(super) struct Copy<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    chunk_bytes: usize,
}

impl<'c> Copy<'c> {
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        statement: &str,
    ) -> Result<Self, StoreError> {
        let copy = connection.copy_in_raw(statement).await?;
        Ok(Self { copy, chunk_bytes: FIRST_CHUNK_BYTES })
    }

    /// Sends what there is when it is worth it.
    pub(super) async fn send(&mut self, rows: &mut CopyRows) -> Result<(), StoreError> {
        if self.chunk_bytes <= rows.0.len() {
            self.copy.send(rows.0.as_slice()).await?;
            rows.0.clear();
            self.chunk_bytes = CHUNK_BYTES.min(self.chunk_bytes * 2);
        }
        Ok(())
    }

    /// Sends the rest and the end of all rows.
    pub(super) async fn finish(mut self, mut rows: CopyRows) -> Result<(), StoreError> {
        rows.0.extend_from_slice(&(-1i16).to_be_bytes());
        self.copy.send(rows.0.as_slice()).await?;
        self.copy.finish().await?;
        Ok(())
    }
}

/// Rows that wait to be sent.
#[derive(Debug)]
pub(super) struct CopyRows(Vec<u8>);

impl CopyRows {
    pub(super) fn new() -> Self {
        let mut buffer = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        buffer.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
        // No flags, and no header extension.
        buffer.extend_from_slice(&[0; 8]);
        Self(buffer)
    }

    /// Begins a row of this many columns, which have to follow.
    pub(super) fn row(&mut self, columns: i16) {
        self.0.extend_from_slice(&columns.to_be_bytes());
    }

    pub(super) fn int8(&mut self, value: i64) {
        self.0.extend_from_slice(&8i32.to_be_bytes());
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn int4(&mut self, value: i32) {
        self.0.extend_from_slice(&4i32.to_be_bytes());
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Fails for 2 GiB and more.
    pub(super) fn bytes(&mut self, value: &[u8]) -> Result<(), StoreError> {
        binary::bytes(&mut self.0, value).ok_or_else(|| too_long(value.len()))
    }

    /// Fails for 2 GiB and more.
    pub(super) fn text(&mut self, value: &str) -> Result<(), StoreError> {
        self.bytes(value.as_bytes())
    }

    pub(super) fn null(&mut self) {
        binary::null(&mut self.0);
    }

    /// The blocks in which a version holds; open without an end. Fails for blocks over 2^63 - 1.
    pub(super) fn range(&mut self, from: u64, until: Option<u64>) -> Result<(), StoreError> {
        binary::range(&mut self.0, signed(from)?, until.map(signed).transpose()?);
        Ok(())
    }

    /// A `jsonb`. Fails when the value has no JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), StoreError> {
        /// What stands before the text of a jsonb.
        const VERSION: u8 = 1;
        let mut error = None;
        let written = binary::sized(&mut self.0, |out| {
            out.push(VERSION);
            serde_json::to_writer(out, value).map_err(|failed| error = Some(failed)).ok()
        });
        match (written, error) {
            (Some(()), _) => Ok(()),
            (None, Some(error)) => Err(StoreError::Defect(error.to_string())),
            (None, None) => Err(too_long(self.0.len())),
        }
    }

    /// The fields of a row that is already begun, which have to be these columns in this order.
    pub(super) fn fields(&mut self, row: &Row, columns: &[Column]) -> Result<(), StoreError> {
        let written = row::fields(&mut self.0, columns, row);
        written.map_err(|error| StoreError::Defect(error.to_string()))
    }
}

fn too_long(bytes: usize) -> StoreError {
    StoreError::Defect(format!("a value of {bytes} bytes"))
}
