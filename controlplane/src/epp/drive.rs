//! Feeds the brain: signs on with the publishing task of this process, as a gateway called `epp`, folds what it is told
//! and reports what the brain did. A table is folded segment by segment, so that requests get their turns in between.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::picker::{Picker, Reporting};
use crate::clock;
use crate::publish::local::{LocalDesk, LocalGateway, Told};

/// How others know us.
const NAME: &str = "epp";
/// Bookings must reach other gateways within 50 ms.
const TICK: Duration = Duration::from_millis(10);
/// Between two attempts to sign on.
const PAUSE: Duration = Duration::from_millis(250);

/// Feeds `picker` from when it is wanted until `stop`.
pub async fn feed(picker: Arc<Picker>, desk: LocalDesk, stop: CancellationToken) {
    let mut wanted = picker.wanted();
    tokio::select! {
        () = stop.cancelled() => return,
        // Fails only at the end.
        told = wanted.wait_for(|wanted| *wanted) => if told.is_err() { return },
    }
    info!("endpoint picker attached");
    loop {
        let follow = async {
            let Some(gateway) = desk.open(NAME).await else { return };
            follow(&picker, gateway).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = follow => {}
        }
        warn!("endpoint picker cut off from its own tables");
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(PAUSE) => {}
        }
    }
}

async fn follow(picker: &Picker, mut gateway: LocalGateway) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reporting = Reporting::default();
    loop {
        tokio::select! {
            told = gateway.next() => match told {
                Some(Told::Live(live)) => picker.take_live(live, clock::now()),
                Some(Told::Segment(segment)) => {
                    let bytes = segment.encode_to_vec();
                    if let Err(error) = picker.fold(&bytes, clock::now()) {
                        warn!(table_version = segment.version, %error, "table segment refused");
                        gateway.start_over();
                        sleep(PAUSE).await;
                    }
                    tokio::task::yield_now().await;
                }
                None => return,
            },
            _ = ticks.tick() => {
                let report = picker.tick(&mut reporting, clock::now());
                if let Some(report) = report
                    && !gateway.report(report).await
                {
                    return;
                }
            }
        }
    }
}
