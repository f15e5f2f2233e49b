//! Server-sent events, split anywhere: how many carried content, and what they said about usage.
//!
//! A content event is never parsed. JSON is read only where counts can be: in OpenAI's chunks that have a `"usage"` object,
//! and in the named events that Anthropic's and the Responses API put them in. However long a line is, at most
//! [`KEPT_BYTES`] of it are held.

use super::usage::{Reading, Usage, UsageReader};
use crate::api::json::line_len;

/// Of one event without a name; a longer one is parsed as it comes.
const KEPT_BYTES: usize = 64 << 10;

/// Longer event names than this are none of ours.
const MAX_NAME: usize = 64;

/// `event` behind a byte order mark is the longest field name that matters.
const MAX_FIELD: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// In the field's name.
    #[default]
    Field,
    /// Behind the colon, where one space does not count.
    DataStart,
    Data,
    NameStart,
    Name,
    Ignored,
}

/// What is done with the data of the event at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Data {
    #[default]
    None,
    Kept,
    Parsed,
    Dropped,
}

#[derive(Debug, Default)]
pub(super) struct EventStream {
    line: Line,
    field: Vec<u8>,
    /// The last byte was a carriage return: a line feed now ends nothing more.
    after_return: bool,
    name: Vec<u8>,
    data: Data,
    kept: Vec<u8>,
    reader: UsageReader,
    pub(super) usage: Option<Usage>,
}

impl EventStream {
    pub(super) fn restart(&mut self) {
        self.line = Line::Field;
        self.field.clear();
        self.after_return = false;
        self.begin_event();
        self.usage = None;
    }

    /// Takes the next bytes; returns how many events with content ended in them.
    pub(super) fn push(&mut self, chunk: &[u8]) -> u32 {
        let mut events = 0;
        let mut rest = chunk;
        while let Some((&first, tail)) = rest.split_first() {
            if std::mem::take(&mut self.after_return) && first == b'\n' {
                rest = tail;
                continue;
            }
            let (text, ended) = rest.split_at_checked(line_len(rest)).unwrap_or((rest, &[]));
            self.text(text);
            let Some((&stop, next_line)) = ended.split_first() else { break };
            self.after_return = stop == b'\r';
            events += u32::from(self.line_end());
            rest = next_line;
        }
        events
    }

    /// The stream ended; an event without its blank line still counts.
    pub(super) fn finish(&mut self) -> u32 {
        let ended = self.line_end();
        u32::from(ended) + u32::from(self.dispatch())
    }

    fn text(&mut self, text: &[u8]) {
        let mut rest = text;
        if self.line == Line::Field {
            let colon = text.iter().take(MAX_FIELD + 1).position(|&byte| byte == b':');
            let (name, value) = text.split_at_checked(colon.unwrap_or(text.len())).unwrap_or((text, &[]));
            let room = (MAX_FIELD + 1).saturating_sub(self.field.len());
            self.field.extend_from_slice(name.get(..room).unwrap_or(name));
            if self.field.len() > MAX_FIELD {
                self.line = Line::Ignored;
            } else if colon.is_some() {
                self.begin_value();
            }
            rest = value.get(1..).unwrap_or_default();
        }
        if matches!(self.line, Line::DataStart | Line::NameStart)
            && let Some(&first) = rest.first()
        {
            rest = rest.get(usize::from(first == b' ')..).unwrap_or_default();
            self.line = if self.line == Line::DataStart { Line::Data } else { Line::Name };
        }
        match self.line {
            Line::Data => self.take_data(rest),
            Line::Name => {
                let room = (MAX_NAME + 1).saturating_sub(self.name.len());
                self.name.extend_from_slice(rest.get(..room).unwrap_or(rest));
            }
            Line::Field | Line::DataStart | Line::NameStart | Line::Ignored => {}
        }
    }

    fn begin_value(&mut self) {
        let field = self.field.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(&self.field);
        self.line = match field {
            b"data" => {
                self.begin_data();
                Line::DataStart
            }
            b"event" => {
                self.name.clear();
                Line::NameStart
            }
            _ => Line::Ignored,
        };
    }

    fn begin_data(&mut self) {
        match self.data {
            Data::None => {
                self.kept.clear();
                self.data = match (self.name.is_empty(), reports_usage(&self.name)) {
                    (true, _) => Data::Kept,
                    (false, true) => {
                        self.reader.restart();
                        Data::Parsed
                    }
                    (false, false) => Data::Dropped,
                };
            }
            // Several data lines are one text.
            Data::Kept | Data::Parsed | Data::Dropped => self.take_data(b"\n"),
        }
    }

    fn take_data(&mut self, bytes: &[u8]) {
        if self.data == Data::Kept && self.kept.len() + bytes.len() > KEPT_BYTES {
            self.reader.restart();
            self.reader.push(&self.kept);
            self.data = Data::Parsed;
        }
        match self.data {
            Data::Kept => self.kept.extend_from_slice(bytes),
            Data::Parsed => self.reader.push(bytes),
            Data::None | Data::Dropped => {}
        }
    }

    /// Whether the line was the blank one behind an event with content.
    fn line_end(&mut self) -> bool {
        let blank = self.line == Line::Field && self.field.is_empty();
        self.line = Line::Field;
        self.field.clear();
        blank && self.dispatch()
    }

    fn dispatch(&mut self) -> bool {
        let reading = match self.data {
            Data::None => {
                self.begin_event();
                return false;
            }
            Data::Kept if may_report_usage(&self.kept) => {
                self.reader.restart();
                self.reader.push(&self.kept);
                self.reader.finish()
            }
            Data::Parsed => self.reader.finish(),
            Data::Kept | Data::Dropped => Reading::default(),
        };
        if let Some(usage) = reading.usage {
            self.usage = Some(self.usage.unwrap_or_default().merged(usage));
        }
        let closing = reading.usage.is_some() && reading.no_choices;
        let done = self.data == Data::Kept && matches!(self.kept.trim_ascii(), b"" | b"[DONE]");
        let content = if self.name.is_empty() { !closing && !done } else { carries_content(&self.name) };
        self.begin_event();
        content
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.kept.capacity() + self.name.capacity() + self.field.capacity()
    }

    fn begin_event(&mut self) {
        self.name.clear();
        self.kept.clear();
        self.data = Data::None;
    }
}

/// Named events whose data holds a `usage`.
fn reports_usage(name: &[u8]) -> bool {
    matches!(
        name,
        b"message_start" | b"message_delta" | b"response.completed" | b"response.incomplete" | b"response.failed"
    )
}

/// `content_block_delta`, `response.output_text.delta` and their like.
fn carries_content(name: &[u8]) -> bool {
    name.ends_with(b"delta") && name != b"message_delta"
}

/// Whether a `"usage"` stands in `data` with an object behind it, be it inside a string, or SGLang's `"meta_info"`. Most
/// chunks of engines that write `"usage":null` end here.
fn may_report_usage(data: &[u8]) -> bool {
    let mut rest = data;
    while let Some((_, quoted)) = rest.iter().position(|&byte| byte == b'"').and_then(|at| rest.split_at_checked(at)) {
        let usage = || object_behind(quoted.strip_prefix(b"\"usage\"")?);
        let meta_info = || object_behind(quoted.strip_prefix(b"\"meta_info\"")?);
        if usage().is_some() || meta_info().is_some_and(is_last) {
            return true;
        }
        rest = quoted.get(1..).unwrap_or_default();
    }
    false
}

/// SGLang reports in every chunk, beside the whole text so far; only the last has a reason to have ended.
fn is_last(meta_info: &[u8]) -> bool {
    const KEY: &[u8] = b"\"finish_reason\"";
    let reason = meta_info.windows(KEY.len()).position(|window| window == KEY);
    let reason = reason.and_then(|at| meta_info.get(at + KEY.len()..)?.trim_ascii_start().strip_prefix(b":"));
    reason.is_none_or(|reason| !reason.trim_ascii_start().starts_with(b"null"))
}

/// What follows the brace of the object that is the value of the key before `rest`.
fn object_behind(rest: &[u8]) -> Option<&[u8]> {
    rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"{")
}
