//! Replicas that elect a leader over a real Lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cluster::access::Access;
use cluster::namespace::Namespace;
use controlplane::config::kubernetes::LeaderElection;
use controlplane::datastore::drive::datastore;
use controlplane::kubernetes::fetch::client;
use controlplane::kubernetes::lease::drive::{LeaderElector, Leadership};
use controlplane::telemetry::Metrics;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fixture::{SOON, cluster_with};

/// Leaders at this moment, and the most that there were.
#[derive(Default)]
struct Crown {
    now: AtomicU32,
    most: AtomicU32,
}

struct Replica {
    leadership: Receiver<Leadership>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    counting: JoinHandle<()>,
}

fn settings() -> LeaderElection {
    LeaderElection {
        lease: "kvasir".to_owned(),
        lease_duration: Duration::from_secs(6),
        renew_deadline: Duration::from_secs(4),
        retry_period: Duration::from_millis(500),
    }
}

impl Replica {
    async fn start(access: &Access, name: &str, crown: &Arc<Crown>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        access.write_kubeconfig(&kubeconfig);
        let client = client(Some(&kubeconfig)).await.unwrap();
        let metrics = Metrics::new(datastore().0.view);
        let (elector, leadership) = LeaderElector::new(client, settings(), name.to_owned(), metrics);
        let stop = CancellationToken::new();
        let running = tokio::spawn(elector.run(stop.clone()));
        let (mut told, crown) = (leadership.clone(), Arc::clone(crown));
        let counting = tokio::spawn(async move {
            let mut led = false;
            while told.changed().await.is_ok() {
                let leads = told.borrow_and_update().leads;
                if leads && !led {
                    let now = crown.now.fetch_add(1, Ordering::SeqCst) + 1;
                    crown.most.fetch_max(now, Ordering::SeqCst);
                } else if led && !leads {
                    crown.now.fetch_sub(1, Ordering::SeqCst);
                }
                led = leads;
            }
            // One that was killed does not act any more.
            if led {
                crown.now.fetch_sub(1, Ordering::SeqCst);
            }
        });
        Self { leadership, stop, running, counting }
    }

    async fn until_leads(&self) {
        let mut leadership = self.leadership.clone();
        timeout(SOON, leadership.wait_for(|told| told.leads)).await.expect("leads in time").unwrap();
    }

    /// Ends without a word, as a process that is killed.
    fn kill(&self) {
        self.running.abort();
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(SOON, self.running).await.unwrap().unwrap();
        timeout(SOON, self.counting).await.unwrap().unwrap();
    }
}

async fn voter(namespace: &Namespace<'_>) -> Access {
    namespace.grant("kvasir", &[("coordination.k8s.io", &["leases"], &["get", "create", "update"])]).await;
    namespace.service_account("kvasir").await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_another_follows_it_and_never_two_at_once() {
    let Some(cluster) = cluster_with(&[]).await else { return };
    let namespace = cluster.namespace("leader").await;
    let access = voter(&namespace).await;
    let crown = Arc::new(Crown::default());
    let first = Replica::start(&access, "first", &crown).await;
    first.until_leads().await;
    let second = Replica::start(&access, "second", &crown).await;
    let mut told = second.leadership.clone();
    timeout(SOON, told.wait_for(|told| told.holder.as_deref() == Some("first"))).await.unwrap().unwrap();
    assert!(!second.leadership.borrow().leads);

    // A leader that ends in order is followed at once.
    let began = Instant::now();
    first.stop().await;
    second.until_leads().await;
    println!("handed over within {:?}", began.elapsed());

    // One that is killed is followed when its Lease has run out, not before.
    let third = Replica::start(&access, "third", &crown).await;
    let mut told = third.leadership.clone();
    timeout(SOON, told.wait_for(|told| told.holder.as_deref() == Some("second"))).await.unwrap().unwrap();
    let began = Instant::now();
    second.kill();
    third.until_leads().await;
    let took = began.elapsed();
    println!("taken over within {took:?}");
    assert!(took >= Duration::from_secs(4), "{took:?}");
    assert!(third.leadership.borrow().leads);
    third.stop().await;
    assert_eq!(crown.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_reach_the_server_stops_to_lead_before_its_lease_runs_out() {
    let Some(mut cluster) = cluster_with(&[]).await else { return };
    let crown = Arc::new(Crown::default());
    let access = {
        let namespace = cluster.namespace("cut-off").await;
        voter(&namespace).await
    };
    let replica = Replica::start(&access, "only", &crown).await;
    replica.until_leads().await;
    let began = Instant::now();
    cluster.stop_apiserver();
    let mut told = replica.leadership.clone();
    timeout(SOON, told.wait_for(|told| !told.leads)).await.unwrap().unwrap();
    let took = began.elapsed();
    println!("stepped down after {took:?}");
    assert!(took < settings().lease_duration, "{took:?}");
    cluster.start_apiserver().await;
    replica.until_leads().await;
    replica.stop().await;
}
