//! One stream of a gateway: its messages in, our answers out, without a task or a queue in between: answers are made when
//! the connection has room for them. However the stream ends, what it booked goes back: at the latest when it is dropped.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio_stream::Stream;
use tonic::Status;

use super::exchange::{Exchange, Reaction};
use super::picker::Picker;
use super::stats::Open;
use super::wire::{ProcessingRequest, ProcessingResponse};
use crate::clock;

/// See the module.
pub struct Conversation<S> {
    messages: S,
    exchange: Exchange,
    answers: VecDeque<ProcessingResponse>,
    picker: Arc<Picker>,
    ended: bool,
    _open: Open,
}

impl<S> Conversation<S> {
    /// A stream for the pool called `pool`; `None`: by model.
    #[must_use]
    pub fn new(messages: S, picker: Arc<Picker>, pool: Option<String>) -> Self {
        let exchange = picker.exchange(pool);
        let open = picker.stats.open();
        Self { messages, exchange, answers: VecDeque::new(), picker, ended: false, _open: open }
    }

    fn take(&mut self, message: ProcessingRequest) {
        let now = clock::now();
        let Reaction { answers, events, over } = self.exchange.on(message, &mut self.picker.brain(), now);
        if !events.is_empty() {
            let took = clock::now().since(now);
            events.iter().for_each(|event| self.picker.stats.count(event, took));
        }
        self.answers.extend(answers);
        if over {
            self.end();
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let events = self.exchange.end(&mut self.picker.brain(), clock::now());
            events.iter().for_each(|event| self.picker.stats.count(event, Duration::ZERO));
        }
    }
}

impl<S: Stream<Item = Result<ProcessingRequest, Status>> + Unpin> Stream for Conversation<S> {
    type Item = Result<ProcessingResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(answer) = this.answers.pop_front() {
                return Poll::Ready(Some(Ok(answer)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut this.messages).poll_next(context)) {
                Some(Ok(message)) => this.take(message),
                Some(Err(status)) => {
                    // A gateway that has all it wanted resets the stream: there is nobody to be told.
                    tracing::debug!(error = %status, "endpoint picker stream broke off");
                    this.picker.stats.broke();
                    this.end();
                }
                None => this.end(),
            }
        }
    }
}

impl<S> Drop for Conversation<S> {
    fn drop(&mut self) {
        self.end();
    }
}
