//! Opens the sockets of the pods and publishes on them.

use crate::backend;
use anyhow::Context;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use vllm_sim::engine::CacheChange;
use vllm_sim::kv_events::{HashForm, KvEventsOptions, WireVersion};
use vllm_sim::publish::{Dialect, Publisher};

/// Running pods; dropping them closes their sockets.
#[derive(Debug)]
pub(crate) struct Pods {
    publishers: Vec<Publisher>,
    /// HTTP ports, in order.
    pub(crate) ports: Vec<u16>,
    _http: JoinSet<()>,
}

impl Pods {
    /// Opens `count` pods on loopback.
    pub(crate) async fn open(count: u16) -> anyhow::Result<Pods> {
        let (mut publishers, mut ports, mut http) = (Vec::new(), Vec::new(), JoinSet::new());
        let options = KvEventsOptions {
            enable_kv_cache_events: true,
            endpoint: "tcp://*:0".to_owned(),
            replay_endpoint: Some("tcp://*:0".to_owned()),
            ..KvEventsOptions::default()
        };
        let dialect = Dialect { version: WireVersion::default(), form: HashForm::Int, rank: 0 };
        for _ in 0..count {
            let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let (publisher, resolved) = Publisher::open(&options, dialect, 0, host).await?;
            let listener = TcpListener::bind((host, 0)).await.context("bind a pod")?;
            ports.push(listener.local_addr()?.port());
            let sources = backend::event_sources(&json!({"0": resolved}));
            http.spawn(backend::serve::serve_pod(listener, sources));
            publishers.push(publisher);
        }
        Ok(Pods { publishers, ports, _http: http })
    }

    /// Publishes one step of one pod; a step without changes is published by nobody.
    pub(crate) fn publish(&mut self, pod: usize, changes: &[CacheChange]) {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        if let Some(publisher) = self.publishers.get_mut(pod)
            && !changes.is_empty()
        {
            publisher.publish(timestamp, changes);
        }
    }

    /// Batches that all pods published so far.
    pub(crate) fn published(&self) -> u64 {
        self.publishers.iter().map(Publisher::published).sum()
    }
}
