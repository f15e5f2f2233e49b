//! Leases, by which replicas agree on one writer.

use cluster::cluster::Cluster;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::refusal;

#[tokio::test]
async fn of_two_writers_of_one_version_of_a_lease_one_is_refused() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace("leases").await;
    let leases: Api<Lease> = namespace.api();
    let lease = json!({"metadata": {"name": "writer"}, "spec": {"leaseDurationSeconds": 15, "leaseTransitions": 0}});
    let lease = leases.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    let held_by = |holder: &str| {
        let mut lease = lease.clone();
        lease.spec.as_mut().expect("a lease has a spec").holder_identity = Some(holder.to_owned());
        lease
    };
    let (one, two) = (held_by("one"), held_by("two"));
    let params = PostParams::default();
    let (first, second) =
        tokio::join!(leases.replace("writer", &params, &one), leases.replace("writer", &params, &two));
    let (winner, loser) = if first.is_ok() { ("one", second) } else { ("two", first) };
    assert!(refusal(loser).is_conflict());
    let held = leases.get("writer").await.unwrap().spec.and_then(|spec| spec.holder_identity);
    assert_eq!(held.as_deref(), Some(winner));
}
