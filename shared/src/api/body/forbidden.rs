//! The one key that clients may not send to an engine. It is taken out of a body without moving a byte.
//!
//! `kv_cache_report_mode` inside a request's `vllm_xargs` (or its sampling parameters' `extra_args`) makes vLLM announce
//! blocks that it holds already, and its events do not tell such an announcement from a new block: whoever counts blocks is
//! off for good. vLLM ignores arguments that it does not know, so a meaningless name of the same length is enough, and
//! `content-length` stays right.

use std::ops::Range;

use crate::api::{BodyError, Problem};

const KEY: &str = "kv_cache_report_mode";

/// One is what a client means; a few more are a client's mistake, and any number is an attack on whoever carries the list.
const MOST: usize = 8;

/// Where the body at hand has the key.
#[derive(Debug, Default)]
pub(super) struct ForbiddenKeys {
    found: Vec<Range<u64>>,
    /// Offset of the first that is one too many.
    beyond: Option<u64>,
}

impl ForbiddenKeys {
    pub(super) fn restart(&mut self) {
        self.found.clear();
        self.beyond = None;
    }

    /// A key directly inside an engine's extra arguments, with the offsets of its two quotes.
    pub(super) fn see(&mut self, key: &[u8], opening: u64, closing: u64) {
        if key != KEY.as_bytes() {
            return;
        }
        if self.found.len() < MOST {
            self.found.push(opening + 1..closing);
        } else {
            self.beyond.get_or_insert(opening);
        }
    }

    /// When there are too many.
    pub(super) fn error(&self) -> Option<BodyError> {
        let problem = Problem::Repeated { most: MOST };
        self.beyond.map(|offset| BodyError { offset, path: KEY.to_owned(), problem })
    }

    pub(super) fn ranges(&self) -> &[Range<u64>] {
        &self.found
    }
}
