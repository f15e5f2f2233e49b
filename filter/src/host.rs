//! The host calls that the filter uses, as safe functions that return the host's status. The SDK's own wrappers panic on
//! statuses they do not expect and on header bytes that are not UTF-8; one panic takes down every stream of a worker.
//!
//! `bindings` is the only place in the project where `unsafe` is allowed.

mod bindings;

pub(crate) use bindings::{
    add_response_header, buffer, continue_request, current_time, define_metric, dequeue, enqueue, get_shared,
    grpc_cancel, grpc_send, header, header_pairs, increment_metric, log, property, record_metric, register_queue,
    remove_header, replace_buffer, reply, set_effective_context, set_property, set_request_header, set_shared,
    set_tick_period,
};

/// Any status of the host but Ok; the number is the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host status {0}")]
pub(crate) struct HostError(pub(crate) u32);

/// The compare-and-swap of `set_shared` met another value.
pub(crate) const CAS_MISMATCH: HostError = HostError(8);

/// Severity, as the ABI numbers it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// Which of the ABI's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

/// Which of the ABI's buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer {
    RequestBody = 0,
    ResponseBody = 1,
    GrpcMessage = 5,
    PluginConfiguration = 7,
}

/// Which of the ABI's header maps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Headers {
    Request = 0,
    Response = 2,
}
