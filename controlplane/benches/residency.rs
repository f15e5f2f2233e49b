//! Exact residency under a fleet's KV events: block events per second on one core, bytes per membership, and what a
//! lookup costs where the result is used.
//!
//! Run with `cargo bench -p controlplane --bench residency`. Compare within a run only. Events are made beforehand;
//! the time includes a drain every 64 events, which is what the tables are made of. `tests/peers` runs the same events
//! through the indexes of other routers.
#![expect(clippy::print_stdout, reason = "the report is the purpose")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may fail loudly")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

#[path = "residency/corpus.rs"]
mod corpus;
#[path = "residency/exact.rs"]
mod exact;

use corpus::{Shape, corpus};
use exact::{measure, measure_lookup};

fn main() {
    let chats = Shape {
        pods: 8,
        pod_blocks: 20_000,
        system_prompts: 40,
        system_blocks: 400,
        requests: 12_000,
        same_names: true,
    };
    let shapes = [
        ("chats, pods name alike", chats),
        ("chats, every pod its own names", Shape { same_names: false, ..chats }),
        ("little in common", Shape { system_prompts: 2_000, system_blocks: 60, ..chats }),
    ];
    println!(
        "{:<34} {:>5} {:>9} {:>9} {:>8} {:>7} {:>7}",
        "", "C", "M ev/s", "B/member", "members", "blocks", "chunks"
    );
    for (name, shape) in shapes {
        let corpus = corpus(shape);
        println!("{name}: {} block events, last chat {} tokens", corpus.block_events, corpus.last.len());
        for chunk_bytes in [128, 256] {
            measure(name, &corpus, chunk_bytes);
        }
    }
    measure_lookup();
}
