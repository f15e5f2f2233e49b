//! `kvasir explain`: asks the control plane that runs with this configuration, so that the bookings of now count; when
//! none answers, runs one of its own for a moment, which knows the endpoints' load but no bookings and no prefixes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use controlplane::config::Config;
use controlplane::config::watch::load;
use controlplane::explain::fetch::explanation;
use controlplane::explain::{Asked, human};
use controlplane::runtime::{Options, start};
use serde_json::Value;

use crate::cli::Explain;

/// How long the endpoints may take to be probed; those that are not by then show as unhealthy.
const PROBED_WITHIN: Duration = Duration::from_secs(5);

/// What is to be printed.
pub(crate) async fn explain(asked: Explain) -> anyhow::Result<String> {
    let config = load(&asked.source.config)?;
    let may_exist = |name: &str| config.kubernetes.pools.is_some() || config.pools.iter().any(|pool| pool.name == name);
    if let Some(name) = asked.pool.as_ref().filter(|name| !may_exist(name)) {
        let names: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
        bail!("--pool {name}: the configuration has {}", names.join(", "));
    }
    let body = std::fs::read(&asked.request).with_context(|| asked.request.display().to_string())?;
    let headers = asked.header.iter().map(|line| header(line)).collect::<anyhow::Result<_>>()?;
    let question = Asked { pool: asked.pool, path: asked.path, headers, body };
    let http = reachable(config.http);
    let running = explanation(http, &question).await.with_context(|| format!("control plane at http://{http}"))?;
    let (found, source) = match running {
        Some(found) => (found, format!("as the control plane at http://{http} knows it now")),
        None => {
            let found = on_our_own(config, question).await?;
            let why = format!("no control plane at http://{http}");
            (found, format!("{why}: endpoints probed just now; nobody's bookings, no prefixes known"))
        }
    };
    Ok(if asked.json { format!("{}\n", serde_json::to_string_pretty(&found)?) } else { human::table(&found, &source) })
}

fn header(line: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let (name, value) = line.split_once(':').with_context(|| format!("--header {line:?}: must be NAME: VALUE"))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().as_bytes().to_vec()))
}

/// Where something that listens on all interfaces is reached from here.
fn reachable(listens: SocketAddr) -> SocketAddr {
    let ip = if listens.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listens.ip() };
    SocketAddr::new(ip, listens.port())
}

async fn on_our_own(mut config: Config, asked: Asked) -> anyhow::Result<Value> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    (config.grpc, config.http) = (anywhere, anywhere);
    config.gateway.eds_directory = None;
    let running = start(Options { config, config_path: None, epp: controlplane::epp::Settings::default() }).await?;
    let mut progress = running.datastore.progress.clone();
    // Late endpoints are shown as what they are: not probed.
    let _late = tokio::time::timeout(PROBED_WITHIN, progress.wait_for(|progress| progress.probed)).await;
    let found = running.explainer.explain(asked).await;
    running.stop().await;
    Ok(found?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!(header("X-SLO-TTFT-ms:  200").unwrap(), ("x-slo-ttft-ms".to_owned(), b"200".to_vec()));
        assert!(header("nothing").is_err());
    }

    #[test]
    fn a_wildcard_listener_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:9090".parse().unwrap()).to_string(), "127.0.0.1:9090");
        assert_eq!(reachable("10.0.0.1:9090".parse().unwrap()).to_string(), "10.0.0.1:9090");
    }
}
