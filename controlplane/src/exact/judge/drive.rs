//! The judge at work, on threads that may block: re-encoding costs what tokenizing costs, and nothing waits for it.

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Judge;
use crate::clock;
use crate::exact::News;
use crate::exact::inquiries::Inquiries;
use crate::publish::drive::NewsDesk;

/// Answers what is asked until `stop`.
pub(in crate::exact) async fn run(
    mut judge: Judge,
    inquiries: Inquiries,
    pool: String,
    news: NewsDesk,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = inquiries.some() => {}
        }
        let (asked, dropped) = inquiries.take();
        let work = move || {
            let judged = judge.judge(asked, clock::now());
            (judge, judged)
        };
        let mut judged = match tokio::task::spawn_blocking(work).await {
            Ok((same, judged)) => {
                judge = same;
                judged
            }
            Err(error) => {
                warn!(pool, %error, "generated text is no longer checked: the tokenizer failed");
                return;
            }
        };
        judged.dropped = dropped;
        let told = tokio::select! {
            () = stop.cancelled() => return,
            told = news.tell(&pool, News::Judged(judged)) => told,
        };
        if !told {
            return;
        }
    }
}
