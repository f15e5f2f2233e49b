//! Responses on their way through: when content comes, how often, and what the engine says it cost.
//!
//! Nothing here fails. A body that is not what its content type claims yields no events and no usage.

mod event_stream;
mod message_stream;
mod model_name;
#[cfg(test)]
mod tests;
mod usage;

pub use model_name::NameRestorer;
pub use usage::Usage;

use event_stream::EventStream;
use message_stream::MessageStream;
use usage::UsageReader;

/// What one push brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseProgress {
    /// Events with content that ended in this push: not `[DONE]`, not a chunk that only reports usage, not the events
    /// around the content that Anthropic and the Responses API send. gRPC's messages with tokens count the same way.
    /// Always 0 for a whole JSON body.
    pub events: u32,
}

/// How a response comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseForm {
    /// One JSON document.
    Document,
    /// `text/event-stream`.
    Events,
    /// gRPC messages of vLLM's service.
    Messages,
}

/// Watches one response after the other; the buffers are kept.
#[derive(Debug)]
pub struct ResponseScanner {
    form: ResponseForm,
    events: EventStream,
    messages: MessageStream,
    document: UsageReader,
    document_usage: Option<Usage>,
    events_total: u64,
}

impl ResponseScanner {
    /// A scanner at the start of a body of this form.
    #[must_use]
    pub fn new(form: ResponseForm) -> Self {
        Self {
            form,
            events: EventStream::default(),
            messages: MessageStream::default(),
            document: UsageReader::default(),
            document_usage: None,
            events_total: 0,
        }
    }

    /// Forgets the response and begins another.
    pub fn restart(&mut self, form: ResponseForm) {
        self.form = form;
        self.events.restart();
        self.messages.restart();
        self.document.restart();
        self.document_usage = None;
        self.events_total = 0;
    }

    /// Takes the next bytes, split anywhere.
    pub fn push(&mut self, chunk: &[u8]) -> ResponseProgress {
        let events = match self.form {
            ResponseForm::Events => self.events.push(chunk),
            ResponseForm::Messages => self.messages.push(chunk),
            ResponseForm::Document => {
                self.document.push(chunk);
                0
            }
        };
        self.counted(events)
    }

    /// The body has ended. To be called once; counts an event that lacks its closing blank line.
    pub fn finish(&mut self) -> ResponseProgress {
        let events = match self.form {
            ResponseForm::Events => self.events.finish(),
            ResponseForm::Messages => 0,
            ResponseForm::Document => {
                self.document_usage = self.document.finish().usage;
                0
            }
        };
        self.counted(events)
    }

    fn counted(&mut self, events: u32) -> ResponseProgress {
        self.events_total += u64::from(events);
        ResponseProgress { events }
    }

    /// The last counts reported so far; those of a JSON body are known after `finish`.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        match self.form {
            ResponseForm::Events => self.events.usage,
            ResponseForm::Messages => self.messages.usage,
            ResponseForm::Document => self.document_usage,
        }
    }

    /// Events with content so far.
    #[must_use]
    pub const fn events_total(&self) -> u64 {
        self.events_total
    }
}
