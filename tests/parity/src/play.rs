//! Playing the script in a shell: every scene as it is, and once more with all bodies cut into small pieces, which must
//! change nothing.

use std::fmt;

use shared::clock::Timestamp;

use crate::expect::Expect;
use crate::native::Native;
use crate::script::{Message, Request, Scene, Script};
use crate::seen::Seen;
use crate::stage::Stage;

/// Bytes of the pieces that bodies come in.
pub const CUTS: [Option<usize>; 4] = [None, Some(1), Some(7), Some(1000)];
/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// A shell that takes time as it is told.
pub trait Shell {
    /// As the script calls it.
    const NAME: &'static str;

    /// A new scene.
    fn start(&mut self, stage: &Stage);

    /// One request, from its first byte to its last.
    fn ask(&mut self, call: &Call<'_>) -> Seen;
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Whose it is.
    pub stage: &'a Stage,
    /// What the client sends.
    pub asked: &'a Message,
    /// What the engine answers.
    pub replied: &'a Message,
    /// In pieces of so many bytes, both ways.
    pub cut: Option<usize>,
    /// Its place in the scene.
    pub number: u64,
}

impl Call<'_> {
    /// So many milliseconds after the request begins.
    #[must_use]
    pub const fn at(&self, milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos((1000 + 100 * self.number + milliseconds) * MILLISECOND)
    }

    /// What a gateway answers when no endpoint takes the request.
    #[must_use]
    pub fn nobody(&self) -> Message {
        let mut message = Message { headers: Vec::new(), body: b"no healthy upstream".to_vec() };
        message.set(":status", "503");
        message
    }
}

/// Plays every scene, in every cut.
///
/// # Panics
/// When anything is otherwise than the script or the native shell has it; all of it is said.
pub fn play<S: Shell>(shell: &mut S) {
    let script = Script::read();
    let mut faults = Vec::new();
    for scene in script.scenes.iter().filter(|scene| !scene.skipped.contains_key(S::NAME)) {
        for cut in CUTS {
            faults.extend(play_scene(&script, scene, cut, shell));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn play_scene<S: Shell>(script: &Script, scene: &Scene, cut: Option<usize>, shell: &mut S) -> Vec<String> {
    let stage = Stage::nowhere(script, scene);
    let mut native = Native::default();
    native.start(&stage);
    shell.start(&stage);
    let mut faults = Vec::new();
    for (number, request) in (0..).zip(&scene.requests) {
        let (asked, replied) = (stage.with_tokens(script.asked(request, cut)), script.replied(request));
        let call = Call { stage: &stage, asked: &asked, replied: &replied, cut, number };
        let (seen, reference) = (named(&stage, shell.ask(&call)), named(&stage, native.ask(&call)));
        let checked = check(script, request, S::NAME, &seen);
        let agrees = agree(&seen, &reference, !request.differs.contains_key(S::NAME));
        let fault = |what: String| format!("{}, request {number}, cut {cut:?}, {}: {what}", scene.name, S::NAME);
        faults.extend(checked.err().into_iter().chain(agrees.err()).map(fault));
    }
    faults
}

/// Is it what the script has for this shell?
///
/// # Errors
/// What is otherwise.
pub fn check(script: &Script, request: &Request, shell: &str, seen: &Seen) -> Result<(), String> {
    let other = request.differs.get(shell).map(|(_, expect)| expect);
    request.expect.but(other.unwrap_or(&Expect::default())).check(script, request, seen)
}

/// `seen` with names in the place of addresses.
#[must_use]
pub fn named(stage: &Stage, mut seen: Seen) -> Seen {
    seen.destination = seen.destination.map(|list| stage.named(&list));
    for message in seen.engine.iter_mut().chain([&mut seen.client]) {
        for (_, value) in &mut message.headers {
            *value = stage.named(value);
        }
        message.headers.sort();
    }
    seen
}

/// Did the same come of it as of `native`? What engines get may differ by design.
fn agree(seen: &Seen, native: &Seen, also_at_engines: bool) -> Result<(), String> {
    alike(seen, native)?;
    same("the client's message is", &seen.client, &native.client)?;
    match (&seen.engine, &native.engine) {
        (Some(seen), Some(native)) if also_at_engines => same("the engine's message is", seen, native),
        _ => Ok(()),
    }
}

/// Are the choice, the body that the client gets, and what is reported the same as of `native`? Real gateways and engines
/// have headers of their own, and words of their own where nobody serves.
///
/// # Errors
/// What is not.
pub fn alike(seen: &Seen, native: &Seen) -> Result<(), String> {
    let body = |seen: &Seen| {
        let made_by_gateway = seen.destination.is_some() && seen.engine.is_none();
        Message { headers: Vec::new(), body: if made_by_gateway { Vec::new() } else { seen.client.body.clone() } }
    };
    let list = |seen: &Seen| seen.destination.clone().unwrap_or_default();
    same("the steering list is", &list(seen), &list(native))?;
    same("the client's body is", &body(seen), &body(native))?;
    same("the report is", &seen.reported, &native.reported)
}

fn same<T: PartialEq + fmt::Display>(what: &str, seen: &T, native: &T) -> Result<(), String> {
    if seen == native { Ok(()) } else { Err(format!("{what} not as of the brain itself:\n{seen}\n{native}")) }
}
