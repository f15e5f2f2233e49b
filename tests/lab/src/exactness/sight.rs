//! What a gateway sees of the engines: payloads go through the decoder into the residency index, its changes through
//! encoded segments into a gateway's table.

use std::sync::Arc;

use controlplane::events::decode::{DecodeError, decode};
use controlplane::events::event::KvEvent;
use controlplane::exact::inquiries::Inquiries;
use controlplane::exact::judge::{Judge, LONGEST};
use controlplane::residency::exact::{ExactCounters, ExactResidency, Scope, Unsupported};
use controlplane::vocabulary::ReadError;
use controlplane::vocabulary::canonical::Canonical;
use controlplane::vocabulary::model_files::{FoundFiles, ModelFiles, RankHints, TokenizerFile};
use prost::Message;
use shared::clock::Timestamp;
use shared::identity::Slot;
use shared::table::residency::{Depth, RESUMES_AT_CHECKPOINTS};
use shared::table::sync::{Refused, TableSync};
use shared::wire;
use vllm_sim::language::vocabulary::tokenizer_json;

use super::{Lesion, MODEL};

const POOL: &str = "pool";
/// Enough for everything that the engines hold.
const BUDGET_BYTES: usize = 1 << 28;
/// A constant keeps runs repeatable.
const SECRET: u64 = 0x6c61_6222;

/// Why events did not become a table.
#[derive(Debug, thiserror::Error)]
pub enum SightError {
    /// A payload was not understood.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Events of a batch were not understood.
    #[error("{0} events of a batch were skipped")]
    Skipped(u32),
    /// An engine was given up.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The gateway refused a segment.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// See the module.
pub(super) struct Sight {
    residency: ExactResidency,
    gateway: TableSync,
    version: u64,
    lesion: Lesion,
    removals: u64,
    inquiries: Inquiries,
    judge: Option<Judge>,
    alarms: u64,
}

impl Sight {
    pub(super) fn new(chunk_bytes: u16, lesion: Lesion) -> Result<Self, ReadError> {
        let tokenizer = TokenizerFile::HuggingFace(tokenizer_json().to_string().into_bytes());
        let files = ModelFiles::new(tokenizer, &FoundFiles::default(), RankHints::default())?;
        let vocabulary = files.vocabulary()?;
        let encoder = files.encoder(&vocabulary)?;
        let scope = Scope { model: MODEL.to_owned(), chunk_bytes, budget_bytes: BUDGET_BYTES, secret: SECRET };
        let mut residency = ExactResidency::new(scope, vocabulary.table().clone());
        let inquiries = Inquiries::default();
        let mut judge = None;
        if lesion != Lesion::Unchecked {
            residency.set_verdict(Box::new(inquiries.clone()));
            judge = Canonical::new(Arc::new(vocabulary), encoder, LONGEST).map(Judge::new);
        }
        let gateway = TableSync::default();
        Ok(Self { residency, gateway, version: 0, lesion, removals: 0, inquiries, judge, alarms: 0 })
    }

    /// `pod` published `payload`.
    pub(super) fn hear(&mut self, pod: u32, payload: &[u8], now: Timestamp) -> Result<(), SightError> {
        let batch = decode(payload)?;
        if batch.skipped > 0 {
            return Err(SightError::Skipped(batch.skipped));
        }
        let Some(slot) = Slot::new(pod) else { return Ok(()) };
        for event in &batch.events {
            let removal = matches!(event, KvEvent::Removed(_));
            self.removals += u64::from(removal);
            let deaf = match self.lesion {
                Lesion::RemovalsIgnored => removal,
                Lesion::EventsIgnored => true,
                Lesion::Nothing
                | Lesion::Unchecked
                | Lesion::CheckpointsIgnored
                | Lesion::OtherModel
                | Lesion::OtherSalt
                | Lesion::AnyPod => false,
            };
            if !deaf {
                self.residency.apply(slot, event, now)?;
            }
        }
        Ok(())
    }

    /// The gateway gets what changed: first a snapshot, then deltas.
    pub(super) fn publish(&mut self, now: Timestamp) -> Result<(), SightError> {
        if let Some(judge) = &mut self.judge {
            let condemned = judge.judge(self.inquiries.take().0, now).condemned;
            let found = condemned.into_iter().filter(|&block| self.residency.condemn(block)).count();
            self.alarms += u64::try_from(found).unwrap_or(0);
        }
        let mut residency = self.residency.drain();
        if self.lesion == Lesion::CheckpointsIgnored {
            residency.retain(|group| !group.keys.contains(&RESUMES_AT_CHECKPOINTS));
        }
        let part = u32::from(!self.gateway.has_table());
        self.version += 1;
        let change = wire::PoolChange { name: POOL.to_owned(), residency, ..wire::PoolChange::default() };
        let segment = wire::Segment { epoch: 1, version: self.version, part, parts: part, pools: vec![change] };
        self.gateway.fold(&segment.encode_to_vec())?;
        Ok(())
    }

    /// Tokens that each of `pods` is thought to have on its device.
    pub(super) fn predict(&self, keys: &[u64], pods: u32) -> Vec<u32> {
        let mut depths: Vec<Depth> = (0..pods).map(|_| Depth::default()).collect();
        if let Some(pool) = self.gateway.table().pools.get(POOL) {
            pool.residency.match_prefix(keys, &mut depths);
        }
        depths.iter().map(|depth| depth.device_tokens.unwrap_or(0)).collect()
    }

    pub(super) const fn counters(&self) -> ExactCounters {
        self.residency.counters()
    }

    /// Blocks that re-encoding found out.
    pub(super) const fn alarms(&self) -> u64 {
        self.alarms
    }

    /// Blocks' removals that were told.
    pub(super) const fn removals(&self) -> u64 {
        self.removals
    }
}
