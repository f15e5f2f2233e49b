//! What the parts of a message mean: `topic | number | payload` from a publisher, and the answers of a replay endpoint,
//! which carry the topic since vLLM 0.26 and did not before. The payload stays as it came.

use bytes::Bytes;

/// The number that ends a replay; -1 to the publisher.
const END: u64 = u64::MAX;

/// A batch as it was published, unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub seq: u64,
    /// Msgpack.
    pub payload: Bytes,
}

/// One answer of a replay endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A batch of the past.
    Batch(Published),
    /// That was all.
    End,
}

/// Reads `topic | number | payload`. Topics match by prefix, as the publisher's own filter does. `None`: something else.
#[must_use]
pub fn published(parts: &[Bytes], topic: &[u8]) -> Option<Published> {
    match parts {
        [of, seq, payload] if of.starts_with(topic) => numbered(seq, payload),
        _ => None,
    }
}

/// Reads `"" | number | payload` and `"" | topic | number | payload`.
#[must_use]
pub fn answer(parts: &[Bytes]) -> Option<Answer> {
    let (seq, payload) = match parts {
        [empty, seq, payload] | [empty, _, seq, payload] if empty.is_empty() => (seq, payload),
        _ => return None,
    };
    let published = numbered(seq, payload)?;
    Some(if published.seq == END { Answer::End } else { Answer::Batch(published) })
}

/// The parts of a request for all batches from `seq`, as a DEALER must send them: the endpoint ignores any other shape.
#[must_use]
pub fn request(seq: u64) -> [Vec<u8>; 2] {
    [Vec::new(), seq.to_be_bytes().to_vec()]
}

fn numbered(seq: &Bytes, payload: &Bytes) -> Option<Published> {
    let seq = u64::from_be_bytes(seq.as_ref().try_into().ok()?);
    Some(Published { seq, payload: payload.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    const WITH_TOPIC: &str = include_str!("../../../tests/fixtures/vllm/wire_int_hash_topic_dp2.json");
    const WITHOUT_TOPIC: &str = include_str!("../../../tests/fixtures/vllm/wire_int_hash_notopic_dp0.json");

    fn parts(json: &Json) -> Vec<Bytes> {
        let hex = |text: &str| {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect::<Vec<_>>()
        };
        json.as_array().unwrap().iter().map(|part| Bytes::from(hex(part.as_str().unwrap()))).collect()
    }

    #[test]
    fn captured_messages_are_read_and_other_topics_are_not() {
        for (capture, topic) in [(WITH_TOPIC, "kv@"), (WITHOUT_TOPIC, "")] {
            let capture: Json = serde_json::from_str(capture).unwrap();
            for step in capture["steps"].as_array().unwrap() {
                let parts = parts(&step["frames_hex"]);
                let seq = published(&parts, topic.as_bytes()).map(|published| published.seq);
                assert_eq!(seq, step["seq"].as_u64());
                assert_eq!(published(&parts, b"other"), None);
            }
        }
    }

    #[test]
    fn captured_replays_are_read_with_and_without_topic() {
        for capture in [WITH_TOPIC, WITHOUT_TOPIC] {
            let capture: Json = serde_json::from_str(capture).unwrap();
            for replay in capture["replay"].as_array().unwrap() {
                let answers = replay["replies_frames_hex_as_seen_by_DEALER"].as_array().unwrap();
                for (got, seq) in answers.iter().zip(replay["reply_seqs"].as_array().unwrap()) {
                    let new = parts(got);
                    // Before 0.26 the topic was missing, all else was the same.
                    let old = [vec![new[0].clone()], new[2..].to_vec()].concat();
                    for parts in [new, old] {
                        let read = answer(&parts).map(|answer| match answer {
                            Answer::Batch(published) => i64::try_from(published.seq).unwrap(),
                            Answer::End => -1,
                        });
                        assert_eq!(read, seq.as_i64());
                    }
                }
                let asked = parts(&replay["request_frames_from_DEALER_hex"]);
                assert_eq!(request(replay["request_start_seq"].as_u64().unwrap()).to_vec(), asked);
            }
        }
    }
}
