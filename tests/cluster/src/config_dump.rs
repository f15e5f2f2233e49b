//! What a proxy was told, as Envoy's `/config_dump` has it. Only what arrived by xDS is looked at: the bootstrap is the
//! test's own. Names are Envoy's (`typed_config`); istiod's own dump says the same in another notation (`typedConfig`).

use serde_json::Value;

/// A dump.
#[derive(Clone, Debug)]
pub struct ConfigDump(Value);

impl ConfigDump {
    pub(crate) const fn new(dump: Value) -> Self {
        Self(dump)
    }

    /// Its listeners, in order.
    #[must_use]
    pub fn listeners(&self) -> Vec<&Value> {
        let all = self.entries("ListenersConfigDump", &["dynamic_listeners"]);
        all.filter_map(|entry| entry.pointer("/active_state/listener")).collect()
    }

    /// The connection managers of all listeners.
    #[must_use]
    pub fn connection_managers(&self) -> Vec<&Value> {
        let chains = self.listeners().into_iter().flat_map(|listener| list(listener, "/filter_chains"));
        let filters = chains.flat_map(|chain| list(chain, "/filters"));
        let named = filters.filter(|filter| filter["name"] == "envoy.filters.network.http_connection_manager");
        named.filter_map(|filter| filter.get("typed_config")).collect()
    }

    /// The cluster of that name.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&Value> {
        let mut all = self.entries("ClustersConfigDump", &["dynamic_active_clusters", "dynamic_warming_clusters"]);
        all.find_map(|entry| entry.get("cluster").filter(|cluster| cluster["name"] == name))
    }

    /// `ip:port` of each endpoint of the cluster of that name, in order.
    #[must_use]
    pub fn endpoints(&self, cluster: &str) -> Vec<String> {
        let all = self.entries("EndpointsConfigDump", &["dynamic_endpoint_configs"]);
        let of_it = all.filter_map(|entry| entry.get("endpoint_config")).filter(|set| set["cluster_name"] == cluster);
        let hosts = of_it.flat_map(|set| list(set, "/endpoints")).flat_map(|locality| list(locality, "/lb_endpoints"));
        let addresses = hosts.filter_map(|host| host.pointer("/endpoint/address/socket_address"));
        let mut named: Vec<_> = addresses
            .map(|address| format!("{}:{}", address["address"].as_str().unwrap_or_default(), address["port_value"]))
            .collect();
        named.sort();
        named
    }

    /// The routes of all virtual hosts, in order.
    #[must_use]
    pub fn routes(&self) -> Vec<&Value> {
        let all = self.entries("RoutesConfigDump", &["dynamic_route_configs"]);
        let hosts = all.flat_map(|entry| list(entry, "/route_config/virtual_hosts"));
        hosts.flat_map(|host| list(host, "/routes")).collect()
    }

    /// Filters that were fetched by name.
    #[must_use]
    pub fn extensions(&self) -> Vec<&Value> {
        let all = self.entries("EcdsConfigDump", &["ecds_filters", "ecdsFilters"]);
        all.filter_map(|entry| entry.get("ecds_filter").or_else(|| entry.get("ecdsFilter"))).collect()
    }

    fn entries<'a>(&'a self, kind: &'static str, lists: &'static [&'static str]) -> impl Iterator<Item = &'a Value> {
        let sections = list(&self.0, "/configs").iter();
        let chosen =
            sections.filter(move |section| section["@type"].as_str().is_some_and(|found| found.ends_with(kind)));
        chosen.flat_map(move |section| lists.iter().filter_map(|name| section[*name].as_array()).flatten())
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clusters_and_endpoints_are_found_by_the_clusters_name() {
        let host = json!({"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 8000}}}});
        let set = json!({"cluster_name": "a", "endpoints": [{"lb_endpoints": [host]}]});
        let dump = ConfigDump::new(json!({"configs": [
            {"@type": "x.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": {"name": "a", "type": "EDS"}}]},
            {"@type": "x.EndpointsConfigDump", "dynamic_endpoint_configs": [{"endpoint_config": set}]},
        ]}));
        assert_eq!(dump.cluster("a").and_then(|cluster| cluster.get("type")), Some(&json!("EDS")));
        assert_eq!(dump.cluster("b"), None);
        assert_eq!(dump.endpoints("a"), ["10.0.0.1:8000"]);
        assert!(dump.endpoints("b").is_empty());
    }
}
