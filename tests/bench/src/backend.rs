//! What the backend answers: one small completion, a stream of events, or what an engine says of itself. Built once; the
//! backend only copies bytes, so that its own cost stays out of the way of what is measured.

pub(crate) mod serve;

/// Size of a streamed event's data, about one token with vLLM's field names around it.
const EVENT_BYTES: usize = 250;

/// A whole completion, head and body.
fn whole() -> Vec<u8> {
    let body = concat!(
        r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1,"model":"bench-model","choices":[{"index":0,"#,
        r#""message":{"role":"assistant","content":"Yes."},"finish_reason":"stop"}],"#,
        r#""usage":{"prompt_tokens":1000,"completion_tokens":2,"total_tokens":1002}}"#
    );
    answer("application/json", body)
}

/// What an idle vLLM engine says of itself to the control plane.
fn metrics() -> Vec<u8> {
    let body = concat!(
        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"bench-model\"} 0.0\n",
        "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"bench-model\"} 0.0\n",
        "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{model_name=\"bench-model\"} 0.0\n",
        "# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"60000\"} 1.0\n",
    );
    answer("text/plain; version=0.0.4", body)
}

/// The answer to `/kv_event_sources`.
pub(crate) fn event_sources(sources: &serde_json::Value) -> Vec<u8> {
    answer("application/json", &sources.to_string())
}

fn answer(content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// The head of a streamed answer.
fn stream_head() -> &'static [u8] {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
}

/// One event as one HTTP chunk.
fn event() -> Vec<u8> {
    let start = concat!(
        r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench-model","#,
        r#""choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}],"system_fingerprint":""#
    );
    let end = "\"}\n\n";
    let padding = "x".repeat(EVENT_BYTES.saturating_sub(start.len() + end.len()));
    chunk(&format!("{start}{padding}{end}"))
}

/// The last chunks: usage, the end mark, and the end of the body.
fn stream_end() -> Vec<u8> {
    let usage = concat!(
        r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench-model","choices":[],"#,
        r#""usage":{"prompt_tokens":1000,"completion_tokens":200,"total_tokens":1200}}"#
    );
    [chunk(&format!("{usage}\n\ndata: [DONE]\n\n")), b"0\r\n\r\n".to_vec()].concat()
}

fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Reader;

    #[test]
    fn the_whole_answer_is_a_completion() {
        let mut reader = Reader::keeping_body();
        let message = reader.feed(&whole()).expect("well-formed").expect("complete");
        assert_eq!(message.status, 200);
        let body: serde_json::Value = serde_json::from_slice(&reader.into_body()).expect("JSON");
        assert_eq!(body["usage"]["completion_tokens"], 2);
    }

    #[test]
    fn a_stream_is_events_then_usage_then_the_end_mark() {
        let mut reader = Reader::keeping_body();
        let bytes = [stream_head(), &event(), &event(), &stream_end()].concat();
        let message = reader.feed(&bytes).expect("well-formed").expect("complete");
        assert_eq!((message.status, message.chunks), (200, 3));
        let body = String::from_utf8(reader.into_body()).expect("text");
        let events: Vec<&str> = body.split_terminator("\n\n").collect();
        assert_eq!(events.len(), 4);
        for event in events.iter().take(3) {
            let json = event.strip_prefix("data: ").expect("an event");
            assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{json}");
        }
        assert_eq!(events[3], "data: [DONE]");
        assert_eq!(events[0].len() + 2, EVENT_BYTES);
    }
}
