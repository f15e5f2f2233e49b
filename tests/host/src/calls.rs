//! What a Proxy-Wasm host keeps for a worker, and the functions that the filter imports, as Envoy answers them. A function
//! that is not here answers Ok and does nothing.

use std::collections::{BTreeMap, VecDeque};

use kvasir_filter::pairs;
use wasmi::{Caller, Extern, Memory, Val};

const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const BAD_ARGUMENT: i32 = 2;
const EMPTY: i32 = 7;
const CAS_MISMATCH: i32 = 8;

/// Headers of a message.
pub type Headers = Vec<(String, String)>;

/// What the host keeps.
#[derive(Debug, Default)]
pub struct Host {
    /// The time, nanoseconds.
    pub nanos: u64,
    /// The plugin's configuration.
    pub configuration: Vec<u8>,
    /// What the filter logged.
    pub logs: Vec<String>,
    /// gRPC streams that were opened; the last one's number.
    pub streams: u32,
    /// Messages that the filter sent on them.
    pub sent: Vec<Vec<u8>>,
    /// The message at hand of a gRPC stream.
    pub received: Vec<u8>,
    /// The stream at hand.
    pub http: Http,
    shared: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    writes: u32,
    queues: Vec<VecDeque<Vec<u8>>>,
}

/// The HTTP stream at hand.
#[derive(Debug, Default)]
pub struct Http {
    /// Of the request.
    pub request: Headers,
    /// Have they gone on? Then nothing can be changed of them.
    pub request_gone: bool,
    /// What is held of the request's body.
    pub request_body: Vec<u8>,
    /// Of the response.
    pub response: Headers,
    /// The piece of the response's body at hand.
    pub response_body: Vec<u8>,
    /// What the filter may ask for, and what it set.
    pub properties: BTreeMap<String, Vec<u8>>,
    /// The filter's own answer.
    pub answer: Option<(u16, Headers, Vec<u8>)>,
    /// Was the request let go outside its own callbacks?
    pub continued: bool,
}

impl Host {
    /// Of a plugin that is configured like this.
    #[must_use]
    pub fn new(configuration: &str) -> Self {
        Self { nanos: 1, configuration: configuration.as_bytes().to_vec(), ..Self::default() }
    }

    /// Puts a value into the shared data.
    pub fn share(&mut self, key: &[u8], value: Vec<u8>) {
        self.writes += 1;
        self.shared.insert(key.to_vec(), (value, self.writes));
    }

    fn share_if(&mut self, key: &[u8], value: Vec<u8>, cas: u32) -> i32 {
        let current = self.shared.get(key).map_or(0, |&(_, cas)| cas);
        if cas != 0 && cas != current {
            return CAS_MISMATCH;
        }
        self.share(key, value);
        OK
    }

    fn buffer(&mut self, number: i32) -> Option<&mut Vec<u8>> {
        match number {
            0 => Some(&mut self.http.request_body),
            1 => Some(&mut self.http.response_body),
            5 => Some(&mut self.received),
            7 => Some(&mut self.configuration),
            _ => None,
        }
    }

    fn headers(&self, number: i32) -> &Headers {
        match number {
            0 => &self.http.request,
            2 => &self.http.response,
            other => panic!("the filter reads header map {other}"),
        }
    }

    fn headers_mut(&mut self, number: i32) -> &mut Headers {
        match number {
            0 if self.http.request_gone => panic!("the filter changes headers that have gone on"),
            0 => &mut self.http.request,
            2 => &mut self.http.response,
            other => panic!("the filter changes header map {other}"),
        }
    }
}

fn memory_of(caller: &Caller<'_, Host>) -> Memory {
    caller.get_export("memory").and_then(Extern::into_memory).unwrap()
}

fn number(value: &Val) -> i32 {
    value.i32().unwrap()
}

fn unsigned(value: &Val) -> u32 {
    number(value).cast_unsigned()
}

fn size(value: &Val) -> usize {
    usize::try_from(unsigned(value)).unwrap()
}

fn read(caller: &Caller<'_, Host>, at: &Val, count: &Val) -> Vec<u8> {
    let mut bytes = vec![0; size(count)];
    memory_of(caller).read(caller, size(at), &mut bytes).unwrap();
    bytes
}

fn text(caller: &Caller<'_, Host>, at: &Val, count: &Val) -> String {
    String::from_utf8(read(caller, at, count)).unwrap()
}

fn write(caller: &mut Caller<'_, Host>, at: &Val, bytes: &[u8]) {
    let memory = memory_of(caller);
    memory.write(caller, size(at), bytes).unwrap();
}

/// Gives `value` to the module, in memory of its own.
fn give(caller: &mut Caller<'_, Host>, value: &[u8], data: &Val, length: &Val) -> i32 {
    let allocate = caller.get_export("proxy_on_memory_allocate").and_then(Extern::into_func).unwrap();
    let mut place = [Val::I32(0)];
    let bytes = i32::try_from(value.len()).unwrap();
    allocate.call(&mut *caller, &[Val::I32(bytes)], &mut place).unwrap();
    write(caller, &place[0], value);
    let address = number(&place[0]);
    write(caller, data, &address.to_le_bytes());
    write(caller, length, &bytes.to_le_bytes());
    OK
}

/// One call of the module.
pub(crate) fn call(name: &str, caller: &mut Caller<'_, Host>, arguments: &[Val]) -> i32 {
    let name = name.strip_prefix("proxy_").unwrap_or(name);
    match name {
        "get_shared_data"
        | "set_shared_data"
        | "register_shared_queue"
        | "dequeue_shared_queue"
        | "enqueue_shared_queue" => shared(name, caller, arguments),
        "get_header_map_pairs"
        | "get_header_map_value"
        | "replace_header_map_value"
        | "add_header_map_value"
        | "remove_header_map_value" => headers(name, caller, arguments),
        "get_buffer_bytes" | "set_buffer_bytes" => buffers(name, caller, arguments),
        "get_property" | "set_property" | "send_local_response" | "continue_stream" => stream(name, caller, arguments),
        _ => root(name, caller, arguments),
    }
}

fn root(name: &str, caller: &mut Caller<'_, Host>, arguments: &[Val]) -> i32 {
    match (name, arguments) {
        ("get_current_time_nanoseconds", [at]) => {
            let nanos = caller.data().nanos;
            write(caller, at, &nanos.to_le_bytes());
        }
        ("log", [_, at, count]) => {
            let line = text(caller, at, count);
            caller.data_mut().logs.push(line);
        }
        // Every stream has a number of its own.
        ("grpc_stream", [.., token]) => {
            let host = caller.data_mut();
            host.streams += 1;
            let number = host.streams;
            write(caller, token, &number.to_le_bytes());
        }
        ("grpc_send", [_, at, count, _]) => {
            let message = read(caller, at, count);
            caller.data_mut().sent.push(message);
        }
        _ => {}
    }
    OK
}

fn shared(name: &str, caller: &mut Caller<'_, Host>, arguments: &[Val]) -> i32 {
    match (name, arguments) {
        ("get_shared_data", [at, count, data, length, cas]) => {
            let wanted = read(caller, at, count);
            let Some((value, number)) = caller.data().shared.get(&wanted).cloned() else { return NOT_FOUND };
            write(caller, cas, &number.to_le_bytes());
            give(caller, &value, data, length)
        }
        ("set_shared_data", [at, count, value, length, cas]) => {
            let (key, value, cas) = (read(caller, at, count), read(caller, value, length), unsigned(cas));
            caller.data_mut().share_if(&key, value, cas)
        }
        ("register_shared_queue", [.., queue]) => {
            let queues = &mut caller.data_mut().queues;
            let number = u32::try_from(queues.len()).unwrap();
            queues.push(VecDeque::new());
            write(caller, queue, &number.to_le_bytes());
            OK
        }
        ("dequeue_shared_queue", [queue, data, length]) => {
            let queue = caller.data_mut().queues.get_mut(size(queue));
            let Some(message) = queue.and_then(VecDeque::pop_front) else { return EMPTY };
            give(caller, &message, data, length)
        }
        ("enqueue_shared_queue", [queue, at, count]) => {
            let message = read(caller, at, count);
            let Some(queue) = caller.data_mut().queues.get_mut(size(queue)) else { return NOT_FOUND };
            queue.push_back(message);
            OK
        }
        _ => BAD_ARGUMENT,
    }
}

fn headers(name: &str, caller: &mut Caller<'_, Host>, arguments: &[Val]) -> i32 {
    match (name, arguments) {
        ("get_header_map_pairs", [map, data, length]) => {
            let all = caller.data().headers(number(map));
            let all: Vec<(&[u8], &[u8])> =
                all.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            let bytes = pairs::serialize(&all);
            give(caller, &bytes, data, length)
        }
        ("get_header_map_value", [map, key, count, data, length]) => {
            let key = text(caller, key, count);
            let found = caller.data().headers(number(map)).iter().find(|(name, _)| *name == key);
            let Some(value) = found.map(|(_, value)| value.clone()) else { return NOT_FOUND };
            give(caller, value.as_bytes(), data, length)
        }
        ("replace_header_map_value" | "add_header_map_value", [map, key, count, value, length]) => {
            let (key, value) = (text(caller, key, count), text(caller, value, length));
            let all = caller.data_mut().headers_mut(number(map));
            if name.starts_with("replace") {
                all.retain(|(name, _)| *name != key);
            }
            all.push((key, value));
            OK
        }
        ("remove_header_map_value", [map, key, count]) => {
            let key = text(caller, key, count);
            caller.data_mut().headers_mut(number(map)).retain(|(name, _)| *name != key);
            OK
        }
        _ => BAD_ARGUMENT,
    }
}

fn buffers(name: &str, caller: &mut Caller<'_, Host>, arguments: &[Val]) -> i32 {
    match (name, arguments) {
        ("get_buffer_bytes", [buffer, start, most, data, length]) => {
            let Some(bytes) = caller.data_mut().buffer(number(buffer)) else { return NOT_FOUND };
            let start = size(start).min(bytes.len());
            let end = start.saturating_add(size(most)).min(bytes.len());
            let bytes = bytes[start..end].to_vec();
            give(caller, &bytes, data, length)
        }
        ("set_buffer_bytes", [buffer, start, count, data, length]) => {
            let bytes = read(caller, data, length);
            let (start, count) = (size(start), size(count));
            let Some(buffer) = caller.data_mut().buffer(number(buffer)) else { return NOT_FOUND };
            // Envoy replaces all of it or nothing.
            if start != 0 || count < buffer.len() {
                return BAD_ARGUMENT;
            }
            *buffer = bytes;
            OK
        }
        _ => BAD_ARGUMENT,
    }
}

fn stream(name: &str, caller: &mut Caller<'_, Host>, arguments: &[Val]) -> i32 {
    match (name, arguments) {
        ("get_property", [path, count, data, length]) => {
            let path = text(caller, path, count);
            let Some(value) = caller.data().http.properties.get(&path).cloned() else { return NOT_FOUND };
            give(caller, &value, data, length)
        }
        ("set_property", [path, count, value, length]) => {
            let (path, value) = (text(caller, path, count), read(caller, value, length));
            caller.data_mut().http.properties.insert(path, value);
            OK
        }
        ("send_local_response", [status, _, _, body, body_size, headers, headers_size, _]) => {
            let (body, headers) = (read(caller, body, body_size), read(caller, headers, headers_size));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let headers = pairs::parse(&headers).expect("serialized headers");
            let headers = headers.into_iter().map(|(name, value)| (text(name), text(value))).collect();
            let status = u16::try_from(unsigned(status)).unwrap();
            caller.data_mut().http.answer = Some((status, headers, body));
            OK
        }
        ("continue_stream", [_]) => {
            caller.data_mut().http.continued = true;
            OK
        }
        _ => BAD_ARGUMENT,
    }
}
