//! A streamed answer: the engine's events in, server-sent events out, one body chunk per event.
//!
//! Dropping it (the client went away) drops the call, which withdraws the request. If the engine loses the request the body
//! breaks off without an end marker.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio_stream::Stream;

use super::reply::{Reply, json, usage};
use super::{Dialect, UsageReport, chat, completions, messages, responses, sglang, tokens};
use crate::drive::Progress;
use crate::infer::Call;

/// The engine crashed under the answer.
#[derive(Debug, thiserror::Error)]
#[error("the engine lost the request")]
pub(super) struct Lost;

/// A stream of server-sent events.
pub(super) struct Narration {
    reply: Reply,
    call: Call,
    usage: UsageReport,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Narration {
    pub(super) fn new(reply: Reply, call: Call, usage: UsageReport) -> Self {
        Self { reply, call, usage, ready: VecDeque::new(), ended: false }
    }

    fn tell(&mut self, progress: Progress) {
        match progress {
            Progress::FirstToken { choice, .. } => {
                self.open(choice);
                self.say_word(choice);
            }
            Progress::Token { choice } => self.say_word(choice),
            Progress::Finished { choice, .. } | Progress::Aborted { choice } => {
                let extra = self.extra();
                match self.reply.dialect {
                    Dialect::Chat => self.say(chat::closing(&self.reply, &self.call, choice, &extra)),
                    Dialect::Completions => self.say(completions::closing(&self.reply, &self.call, choice, &extra)),
                    Dialect::Responses | Dialect::Messages | Dialect::Tokens | Dialect::Sglang => {}
                }
            }
        }
    }

    fn open(&mut self, choice: usize) {
        let opening = match self.reply.dialect {
            Dialect::Chat => vec![chat::opening(&self.reply, choice, &self.extra())],
            Dialect::Completions | Dialect::Tokens | Dialect::Sglang => Vec::new(),
            Dialect::Responses => responses::opening(&self.reply),
            Dialect::Messages => messages::opening(&self.reply, &self.call),
        };
        self.ready.extend(opening.into_iter().map(Bytes::from));
    }

    fn say_word(&mut self, index: usize) {
        let Some(choice) = self.call.choices.get(index) else { return };
        let (word, extra) = (self.call.last_word(choice), self.extra());
        let event = match self.reply.dialect {
            Dialect::Chat => chat::delta(&self.reply, index, &word, &extra),
            Dialect::Completions => completions::delta(&self.reply, index, &word, &extra),
            Dialect::Responses => responses::delta(&self.reply, &word, choice.generated.saturating_sub(1)),
            Dialect::Messages => messages::delta(&word),
            Dialect::Tokens => tokens::delta(&self.reply, &self.call, index, choice, &extra),
            Dialect::Sglang => sglang::delta(&self.reply, &self.call, index, choice),
        };
        self.say(event);
    }

    fn end(&mut self) {
        self.ended = true;
        let ending = match self.reply.dialect {
            Dialect::Chat | Dialect::Completions | Dialect::Tokens | Dialect::Sglang => {
                let usage = match (self.usage, self.reply.dialect) {
                    (UsageReport::Never, _) => None,
                    (UsageReport::AtEnd | UsageReport::Continuous, Dialect::Tokens) => {
                        Some(tokens::closing(&self.reply, &self.call))
                    }
                    (UsageReport::AtEnd | UsageReport::Continuous, _) => {
                        Some(self.reply.chunk(&format!(r#""choices":[],"usage":{}}}"#, json(&usage(&self.call)))))
                    }
                };
                usage.into_iter().chain(["data: [DONE]\n\n".to_owned()]).collect()
            }
            Dialect::Responses => responses::ending(&self.reply, &self.call),
            Dialect::Messages => messages::ending(&self.call),
        };
        self.ready.extend(ending.into_iter().map(Bytes::from));
    }

    /// What continuous usage adds to a chunk.
    fn extra(&self) -> String {
        match self.usage {
            UsageReport::Continuous => format!(r#","usage":{}"#, json(&usage(&self.call))),
            UsageReport::Never | UsageReport::AtEnd => String::new(),
        }
    }

    fn say(&mut self, event: String) {
        self.ready.push_back(event.into());
    }
}

impl Stream for Narration {
    type Item = Result<Bytes, Lost>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(this.call.poll_next(context)) {
                Some(progress) => this.tell(progress),
                None if this.call.is_complete() => this.end(),
                None => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(Lost)));
                }
            }
        }
    }
}
