//! Responses on their way through: when content comes, how often, and what the engine says it cost.
//!
//! Nothing here fails. A body that is not what its content type claims yields no events and no usage.

mod event_stream;
mod model_name;
#[cfg(test)]
mod tests;
mod usage;

pub use model_name::NameRestorer;
pub use usage::Usage;

use event_stream::EventStream;
use usage::UsageReader;

/// What one push brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseProgress {
    /// Events with content that ended in this push: not `[DONE]`, not a chunk that only reports usage, not the events
    /// around the content that Anthropic and the Responses API send. Always 0 for a whole JSON body.
    pub events: u32,
}

/// Watches one response after the other; the buffers are kept.
#[derive(Debug)]
pub struct ResponseScanner {
    streaming: bool,
    events: EventStream,
    document: UsageReader,
    document_usage: Option<Usage>,
    events_total: u64,
}

impl ResponseScanner {
    /// `streaming`: the body is `text/event-stream`; otherwise it is taken for one JSON document.
    #[must_use]
    pub fn new(streaming: bool) -> Self {
        Self {
            streaming,
            events: EventStream::default(),
            document: UsageReader::default(),
            document_usage: None,
            events_total: 0,
        }
    }

    /// Forgets the response and begins another.
    pub fn restart(&mut self, streaming: bool) {
        self.streaming = streaming;
        self.events.restart();
        self.document.restart();
        self.document_usage = None;
        self.events_total = 0;
    }

    /// Takes the next bytes, split anywhere.
    pub fn push(&mut self, chunk: &[u8]) -> ResponseProgress {
        if self.streaming {
            let events = self.events.push(chunk);
            self.counted(events)
        } else {
            self.document.push(chunk);
            ResponseProgress::default()
        }
    }

    /// The body has ended. To be called once; counts an event that lacks its closing blank line.
    pub fn finish(&mut self) -> ResponseProgress {
        if self.streaming {
            let events = self.events.finish();
            self.counted(events)
        } else {
            self.document_usage = self.document.finish().usage;
            ResponseProgress::default()
        }
    }

    fn counted(&mut self, events: u32) -> ResponseProgress {
        self.events_total += u64::from(events);
        ResponseProgress { events }
    }

    /// The last counts reported so far; those of a JSON body are known after `finish`.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        if self.streaming { self.events.usage } else { self.document_usage }
    }

    /// Events with content so far.
    #[must_use]
    pub const fn events_total(&self) -> u64 {
        self.events_total
    }
}
