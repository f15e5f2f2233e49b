//! The chart grants what the control plane needs, and no verb more: with its own roles everything is followed, and with
//! any one of their verbs withheld something is not, and says which.

use cluster::access::Access;
use cluster::cluster::Cluster;
use cluster::helm::Chart;
use cluster::kind::{Kind, POOL};
use cluster::namespace::Namespace;
use controlplane::kubernetes::cluster::Kind as Followed;
use controlplane::kubernetes::collection::Scope;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;
use tokio::time::timeout;

use crate::fixture::{
    OBJECTIVE, Plane, REWRITE, SOON, cluster_with, create, inference_pool, objective, pod, rewrite, states,
};

/// Everything that the chart can ask for.
const VALUES: &str = "gateway: {mode: epp}\ndiscovery: {attached: true}\nleaderElection: {enabled: true}\n";
const CONFIG: &str = "kubernetes:
  pools: {endpointPicker: '*'}
  leaderElection: {enabled: true, leaseName: kvasir, leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 100ms}";
const FOLLOWED: [Followed; 4] =
    [Followed::Pod, Followed::InferencePool, Followed::InferenceObjective, Followed::InferenceModelRewrite];
const LEASE: Kind = Kind::new("coordination.k8s.io/v1", "Lease", "leases");

/// One verb on one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    role: String,
    group: String,
    resource: String,
    verb: String,
}

/// Every single grant of `role`.
fn grants(role: &Role) -> Vec<Grant> {
    let mut all = Vec::new();
    for rule in role.rules.iter().flatten() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                all.extend(rule.verbs.iter().map(|verb| Grant {
                    role: role.metadata.name.clone().unwrap(),
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                }));
            }
        }
    }
    all
}

/// `role` with everything that it grants but `withheld`.
fn without(role: &Role, withheld: &Grant) -> Role {
    let names = |grant: &Grant| {
        let rules = role.rules.iter().flatten();
        let rule = rules.clone().find(|rule| {
            rule.verbs.contains(&grant.verb) && rule.resources.iter().flatten().any(|named| *named == grant.resource)
        });
        rule.and_then(|rule| rule.resource_names.clone())
    };
    let kept = grants(role).into_iter().filter(|grant| grant != withheld);
    let rules = kept.map(|grant| PolicyRule {
        resource_names: names(&grant),
        api_groups: Some(vec![grant.group]),
        resources: Some(vec![grant.resource]),
        verbs: vec![grant.verb],
        ..PolicyRule::default()
    });
    Role { rules: Some(rules.collect()), ..role.clone() }
}

struct Stage<'a> {
    namespace: Namespace<'a>,
    account: Access,
}

impl<'a> Stage<'a> {
    async fn set(cluster: &'a Cluster) -> Self {
        let namespace = cluster.namespace("grants").await;
        let folder = tempfile::tempdir().unwrap();
        let values = folder.path().join("values.yaml");
        std::fs::write(&values, VALUES).unwrap();
        let account = Chart::ours().service_account(&namespace, &values).await;
        Self { namespace, account }
    }

    async fn roles(&self) -> Vec<Role> {
        self.namespace.api::<Role>().list(&ListParams::default()).await.unwrap().items
    }

    async fn put(&self, role: &Role) {
        let api = self.namespace.api::<Role>();
        let name = role.metadata.name.as_deref().unwrap();
        let mut role = role.clone();
        role.metadata.resource_version = api.get(name).await.unwrap().metadata.resource_version;
        api.replace(name, &PostParams::default(), &role).await.unwrap();
    }

    /// Waits until the server's answer about `grant` is `allowed`: roles come into force a moment after they change.
    async fn until(&self, grant: &Grant, allowed: bool) {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.account.client().await);
        let attributes = json!({"namespace": self.namespace.name, "group": grant.group, "resource": grant.resource,
                                "verb": grant.verb, "name": if grant.verb == "create" { "" } else { "kvasir" }});
        let review: SelfSubjectAccessReview =
            serde_json::from_value(json!({"spec": {"resourceAttributes": attributes}})).unwrap();
        e2e::wait::eventually(&format!("{grant:?}: {allowed}"), SOON, async || {
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            answer.status.unwrap().allowed == allowed
        })
        .await;
    }

    /// With `withheld` gone, a control plane says so.
    async fn needs(&self, role: &Role, withheld: &Grant) {
        self.put(&without(role, withheld)).await;
        self.until(withheld, false).await;
        self.forget_lease().await;
        let plane = Plane::start(&self.account, CONFIG).await;
        let scope = Scope::Namespace(self.namespace.name.as_str().into());
        let told =
            format!("cannot {} resource \"{}\" in API group \"{}\"", withheld.verb, withheld.resource, withheld.group);
        e2e::wait::eventually(&told, SOON, async || {
            let cluster = plane.running.cluster.borrow();
            let mut faults = FOLLOWED.iter().filter_map(|kind| cluster.fault(*kind, &scope));
            let of_the_lease = plane.running.leadership.borrow().fault.clone();
            faults.any(|fault| fault.contains(&told)) || of_the_lease.is_some_and(|fault| fault.contains(&told))
        })
        .await;
        plane.stop().await;
        self.put(role).await;
        self.until(withheld, true).await;
    }

    async fn forget_lease(&self) {
        let gone = self.namespace.of(LEASE).delete("kvasir", &DeleteParams::default()).await;
        assert!(gone.is_ok() || matches!(&gone, Err(kube::Error::Api(status)) if status.code == 404), "{gone:?}");
    }
}

/// Withholds each grant for which the cluster with `bundles` has a use; returns those and the others.
async fn withhold_each(bundles: &[&str], used: impl Fn(&Grant) -> bool) -> Option<(Vec<Grant>, Vec<Grant>)> {
    let cluster = cluster_with(bundles).await?;
    let stage = Stage::set(&cluster).await;
    let (mut tried, mut others) = (Vec::new(), Vec::new());
    for role in stage.roles().await {
        for grant in grants(&role) {
            if used(&grant) {
                stage.needs(&role, &grant).await;
                tried.push(grant);
            } else {
                others.push(grant);
            }
        }
    }
    Some((tried, others))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_that_the_chart_grants_is_missed_when_it_is_withheld() {
    let old = |grant: &Grant| grant.group == "inference.networking.x-k8s.io";
    let with_v1 = withhold_each(&["inference-extension", "llm-d"], |grant| !old(grant)).await;
    let Some((tried, left)) = with_v1 else { return };
    assert_eq!(tried.len(), 11, "{tried:?}");
    // The predecessor of InferencePool is followed where the cluster has nothing newer.
    let (tried, _) = withhold_each(&["inference-extension-alpha", "llm-d"], old).await.unwrap();
    assert!(!tried.is_empty() && tried == left, "{tried:?} {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chart_grants_is_enough_to_follow_everything_and_to_lead() {
    let Some(cluster) = cluster_with(&["inference-extension", "llm-d"]).await else { return };
    let stage = Stage::set(&cluster).await;
    let plane = Plane::start(&stage.account, CONFIG).await;
    plane.until_ready().await;
    let mut leadership = plane.running.leadership.clone();
    timeout(SOON, leadership.wait_for(|told| told.leads && told.fault.is_none())).await.unwrap().unwrap();
    // All of it comes after the first lists: it is watched.
    stage.namespace.run(pod(1)).await;
    create(&stage.namespace, POOL, inference_pool("llama", &json!({"app": "vllm"}), &[7001])).await;
    let reference = json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "llama"});
    create(&stage.namespace, OBJECTIVE, objective("batch", -10, &reference)).await;
    create(&stage.namespace, REWRITE, rewrite("canary", "llama-2", &reference)).await;
    let pool = format!("{}/llama", stage.namespace.name);
    plane.until("the pod", |view| states(view, &pool).len() == 1).await;
    let followed = async || {
        let source = plane.source(&pool).await;
        source["objectives"][0]["name"] == "batch" && source["rewrites"][0]["name"] == "canary"
    };
    e2e::wait::eventually("objective and rewrite", SOON, followed).await;
    plane.stop().await;
}
