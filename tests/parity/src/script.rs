//! The script as it is written. `{NAME}` in a text stands for a text of the script, so that prompts can be long.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::expect::Expect;

/// All scenes, and why shells may differ.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Names of differences by design, with the reason; the README has the same.
    pub differences: BTreeMap<String, String>,
    /// What `{NAME}` stands for: a text, so many times.
    texts: BTreeMap<String, (String, usize)>,
    /// Each has tables of its own.
    pub scenes: Vec<Scene>,
}

/// Requests one after the other on the same tables.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// The claim.
    pub name: String,
    /// Absent: no table has come.
    pub pools: Option<Vec<Pool>>,
    /// Endpoints that refuse every connection.
    #[serde(default)]
    pub refuses: Vec<String>,
    /// Shells that cannot play it, and why: a name of `differences`.
    #[serde(default)]
    pub skipped: BTreeMap<String, String>,
    /// In order.
    pub requests: Vec<Request>,
}

/// A pool of the table. One that is alone is also the pool that the shell routes to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Names of its endpoints, in slot order.
    pub endpoints: Vec<String>,
    /// Models, and for adapters what they are adapters of.
    pub models: BTreeMap<String, Option<String>>,
    /// Model and where requests for it go; `*` is any model.
    #[serde(default)]
    pub rewrites: BTreeMap<String, String>,
    /// The chat template of the first model.
    pub template: Option<String>,
    /// Does the table say what token ids of the first model stand for? Each is the byte of that number.
    #[serde(default)]
    pub bytes_are_tokens: bool,
    /// Which endpoint holds which text as prefix of the first model.
    #[serde(default)]
    pub holds: BTreeMap<String, String>,
    /// Header of the session; empty: none.
    #[serde(default)]
    pub session_header: String,
    /// The largest body, bytes.
    pub max_body_bytes: Option<u64>,
}

/// One request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default = "post")]
    method: String,
    #[serde(default = "chat")]
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text as it is, or JSON. Absent: no body.
    body: Option<Value>,
    /// What whoever serves it answers.
    #[serde(default)]
    reply: Reply,
    /// What must come of it.
    pub expect: Expect,
    /// What is otherwise in these shells: a name of `differences`, and what must come of it there.
    #[serde(default)]
    pub differs: BTreeMap<String, (String, Expect)>,
}

fn post() -> String {
    "POST".to_owned()
}

fn chat() -> String {
    "/v1/chat/completions".to_owned()
}

/// An engine's answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Default for Reply {
    fn default() -> Self {
        let headers = [("content-type", "application/json")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let body = r#"{"model":"m","usage":{"prompt_tokens":9,"completion_tokens":2}}"#.to_owned();
        Self { status: 200, headers: headers.into(), body }
    }
}

/// Headers and body of either direction; of a response, `:status` is among the headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl fmt::Display for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headers.iter().try_for_each(|(name, value)| writeln!(out, "  {name}: {value}"))?;
        write!(out, "  {}", String::from_utf8_lossy(&self.body))
    }
}

impl Message {
    /// Of this header, all values.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(" AND "))
    }

    /// In the place of whatever it is.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// All values of it.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| key != name);
    }

    /// The status of a response.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.header(":status").expect("a response has a status").parse().unwrap()
    }
}

impl Script {
    /// The script.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn read() -> Self {
        serde_json::from_str(include_str!("../script.json")).expect("script.json can be read")
    }

    /// `text` with all that its names stand for.
    #[must_use]
    pub fn expand(&self, text: &str) -> String {
        let replace = |text: String, (name, (part, times)): (&String, &(String, usize))| {
            text.replace(&format!("{{{name}}}"), &part.repeat(*times))
        };
        self.texts.iter().fold(text.to_owned(), replace)
    }

    /// What the client sends. A body that comes in pieces is not announced.
    #[must_use]
    pub fn asked(&self, request: &Request, cut: Option<usize>) -> Message {
        let body = match &request.body {
            None => String::new(),
            Some(Value::String(text)) => self.expand(text),
            Some(json) => self.expand(&json.to_string()),
        };
        let mut message = Message { headers: Vec::new(), body: body.into_bytes() };
        let pseudo = [(":method", &request.method), (":path", &request.path)];
        let own = request.headers.iter().map(|(name, value)| (name.as_str(), value));
        pseudo.into_iter().chain(own).for_each(|(name, value)| message.set(name, value));
        if request.body.is_some() && cut.is_none() {
            let length = message.body.len().to_string();
            message.set("content-length", &length);
        }
        message
    }

    /// What whoever serves it answers.
    #[must_use]
    pub fn replied(&self, request: &Request) -> Message {
        let Reply { status, headers, body } = &request.reply;
        let mut message = Message { headers: Vec::new(), body: self.expand(body).into_bytes() };
        message.set(":status", &status.to_string());
        message.set("date", "Sat, 21 Nov 2026 00:00:00 GMT");
        headers.iter().for_each(|(name, value)| message.set(name, value));
        message
    }
}

/// `body` in pieces of `cut` bytes; `None`: in one. An empty one has none.
pub fn pieces(body: &[u8], cut: Option<usize>) -> impl Iterator<Item = (&[u8], bool)> {
    let mut chunks = body.chunks(cut.unwrap_or(usize::MAX).max(1)).peekable();
    std::iter::from_fn(move || chunks.next().map(|chunk| (chunk, chunks.peek().is_none())))
}
