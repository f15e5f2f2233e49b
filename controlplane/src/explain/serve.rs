//! Asks the publishing task for its state and explains on it, off the async threads: folding a large table takes a while.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::{Asked, ExplainError, answer};
use crate::clock;
use crate::publish::drive::TableReader;

/// Explains decisions, one at a time: each takes a whole copy of the table.
#[derive(Clone)]
pub struct Explainer {
    tables: TableReader,
    turn: Arc<Semaphore>,
}

impl Explainer {
    /// Explains what `tables` publishes.
    #[must_use]
    pub fn new(tables: TableReader) -> Self {
        Self { tables, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Where `asked` would go, and why.
    ///
    /// # Errors
    /// As `answer`, and when the control plane is stopping.
    pub async fn explain(&self, asked: Asked) -> Result<Value, ExplainError> {
        let _turn = self.turn.acquire().await.map_err(|_| ExplainError::Stopping)?;
        let dump = self.tables.dump().await.ok_or(ExplainError::Stopping)?;
        let explained = tokio::task::spawn_blocking(move || answer(dump, &asked, clock::now()));
        explained.await.map_err(|_| ExplainError::Stopping)?
    }
}
