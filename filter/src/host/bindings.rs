//! Bindings to the Proxy-Wasm ABI 0.2.1 host functions. Memory that the host returns was allocated through the SDK's
//! `proxy_on_memory_allocate`, with capacity equal to size, so a `Vec` may take it over.
#![expect(unsafe_code, reason = "calls across the Wasm boundary; nothing else in the project may")]

use core::ptr::null_mut;

use shared::clock::Timestamp;

use super::{Buffer, Headers, HostError, Level, MetricKind};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_buffer_bytes(buffer: u32, start: usize, size: usize, data: *const u8, data_size: usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(map: u32, key: *const u8, key_size: usize, value: *const u8, size: usize) -> u32;
    fn proxy_add_header_map_value(map: u32, key: *const u8, key_size: usize, value: *const u8, size: usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, size: usize, cas: u32) -> u32;
    fn proxy_register_shared_queue(name: *const u8, size: usize, queue: *mut u32) -> u32;
    fn proxy_dequeue_shared_queue(queue: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_enqueue_shared_queue(queue: u32, value: *const u8, size: usize) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, metric: *mut u32) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
    fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
    fn proxy_grpc_send(token: u32, message: *const u8, size: usize, end_stream: u32) -> u32;
    fn proxy_grpc_cancel(token: u32) -> u32;
}

const REQUEST_STREAM: u32 = 0;
const NO_GRPC_STATUS: i32 = -1;

const fn check(status: u32) -> Result<(), HostError> {
    if status == 0 { Ok(()) } else { Err(HostError(status)) }
}

/// Runs a call that returns memory.
fn fetch(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, HostError> {
    let (mut data, mut size) = (null_mut(), 0);
    check(call(&raw mut data, &raw mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host allocated `size` bytes with this module's allocator and gives them away (module doc).
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

pub(crate) fn log(level: Level, message: &str) {
    // SAFETY: the pointer and length are of one live string.
    let _status = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

pub(crate) fn current_time() -> Timestamp {
    let mut nanos = 0;
    // SAFETY: the host writes one u64.
    let _status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanos) };
    Timestamp::from_nanos(nanos)
}

pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), HostError> {
    // SAFETY: plain numbers.
    check(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

pub(crate) fn buffer(buffer: Buffer, start: usize, max: usize) -> Result<Vec<u8>, HostError> {
    // SAFETY: `fetch` passes two valid places to write to.
    fetch(|data, size| unsafe { proxy_get_buffer_bytes(buffer as u32, start, max, data, size) })
}

/// Puts `bytes` in the place of all that the buffer holds. `content-length` is the caller's business.
pub(crate) fn replace_buffer(buffer: Buffer, bytes: &[u8]) -> Result<(), HostError> {
    // Envoy: from 0, and at least as much as there is, or BadArgument.
    // SAFETY: pointer and length of a live slice.
    check(unsafe { proxy_set_buffer_bytes(buffer as u32, 0, usize::MAX, bytes.as_ptr(), bytes.len()) })
}

/// The serialized request headers (`crate::pairs`).
pub(crate) fn header_pairs(map: Headers) -> Result<Vec<u8>, HostError> {
    // SAFETY: `fetch` passes two valid places to write to.
    fetch(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })
}

pub(crate) fn header(map: Headers, name: &str) -> Result<Vec<u8>, HostError> {
    // SAFETY: one live string, and two valid places to write to.
    fetch(|data, size| unsafe { proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size) })
}

pub(crate) fn set_request_header(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointers and lengths of live slices.
    check(unsafe {
        proxy_replace_header_map_value(Headers::Request as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

pub(crate) fn remove_header(map: Headers, name: &str) -> Result<(), HostError> {
    // SAFETY: pointer and length of a live string.
    check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

pub(crate) fn add_response_header(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointers and lengths of live slices.
    check(unsafe {
        proxy_add_header_map_value(Headers::Response as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// `path` components are separated by zero bytes.
pub(crate) fn property(path: &str) -> Result<Vec<u8>, HostError> {
    // SAFETY: one live string, and two valid places to write to.
    fetch(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

pub(crate) fn set_property(path: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointers and lengths of live slices.
    check(unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
}

/// The value and its compare-and-swap number; `None` when there is none.
pub(crate) fn get_shared(key: &str) -> Result<Option<(Vec<u8>, u32)>, HostError> {
    let mut cas = 0;
    // SAFETY: one live string, and three valid places to write to.
    let value = fetch(|data, size| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas) });
    match value {
        Ok(value) => Ok(Some((value, cas))),
        Err(HostError(1)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `cas` 0 writes whatever is there.
pub(crate) fn set_shared(key: &str, value: &[u8], cas: u32) -> Result<(), HostError> {
    // SAFETY: pointers and lengths of live slices.
    check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

pub(crate) fn register_queue(name: &str) -> Result<u32, HostError> {
    let mut queue = 0;
    // SAFETY: one live string, and one valid place to write to.
    check(unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut queue) })?;
    Ok(queue)
}

/// The next message, `None` when the queue is empty.
pub(crate) fn dequeue(queue: u32) -> Result<Option<Vec<u8>>, HostError> {
    // SAFETY: `fetch` passes two valid places to write to.
    match fetch(|data, size| unsafe { proxy_dequeue_shared_queue(queue, data, size) }) {
        Ok(message) => Ok(Some(message)),
        Err(HostError(7)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn enqueue(queue: u32, message: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointer and length of a live slice.
    check(unsafe { proxy_enqueue_shared_queue(queue, message.as_ptr(), message.len()) })
}

/// Lets the held request of the effective context go on.
pub(crate) fn continue_request() -> Result<(), HostError> {
    // SAFETY: plain numbers.
    check(unsafe { proxy_continue_stream(REQUEST_STREAM) })
}

/// Answers the request of the effective context; `headers` as `crate::pairs` serializes them.
pub(crate) fn reply(status: u16, headers: &[u8], body: &[u8]) -> Result<(), HostError> {
    let details = "kvasir";
    // SAFETY: pointers and lengths of live slices.
    check(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    })
}

pub(crate) fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: plain numbers.
    check(unsafe { proxy_set_effective_context(context) })
}

pub(crate) fn define_metric(kind: MetricKind, name: &str) -> Result<u32, HostError> {
    let mut metric = 0;
    // SAFETY: one live string, and one valid place to write to.
    check(unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut metric) })?;
    Ok(metric)
}

pub(crate) fn record_metric(metric: u32, value: u64) -> Result<(), HostError> {
    // SAFETY: plain numbers.
    check(unsafe { proxy_record_metric(metric, value) })
}

pub(crate) fn increment_metric(metric: u32, offset: i64) -> Result<(), HostError> {
    // SAFETY: plain numbers.
    check(unsafe { proxy_increment_metric(metric, offset) })
}

pub(crate) fn grpc_send(token: u32, message: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointer and length of a live slice.
    check(unsafe { proxy_grpc_send(token, message.as_ptr(), message.len(), 0) })
}

pub(crate) fn grpc_cancel(token: u32) -> Result<(), HostError> {
    // SAFETY: plain numbers.
    check(unsafe { proxy_grpc_cancel(token) })
}

/// The module's one export beyond the Proxy-Wasm ABI (`crate::probe`). The caller allocated `size` bytes at `data` with
/// `proxy_on_memory_allocate` and gives them away. Returns the answer's address in the high half, its size in the low.
#[unsafe(no_mangle)]
extern "C" fn kvasir_probe_cost(data: *mut u8, size: usize) -> u64 {
    // SAFETY: the caller's side of the contract above.
    let case = unsafe { Vec::from_raw_parts(data, size, size) };
    let answer = crate::probe::cost(&case).leak();
    (answer.as_ptr().addr() as u64) << 32 | answer.len() as u64
}
