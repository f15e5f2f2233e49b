"""What the chart patches into gateways, put into a bootstrap as Istio would and shown to a real Envoy ($ENVOY_BIN) with the
built filter ($KVASIR_WASM, else target/wasm): clusters, filters, the listener's limit, statistics."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import yaml

from test_chart import ROOT, VALUES, named, only, plugin, rendered

ENVOY = os.environ.get("ENVOY_BIN", "")
FILTER = pathlib.Path(os.environ.get("KVASIR_WASM", ROOT / "target/wasm/kvasir_filter.wasm"))
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {"name": "envoy.filters.http.router",
          "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}


def endpoints(name):
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 8000}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def wasm_filter(name, config):
    """A WasmPlugin as Istio turns it into a filter, as far as Envoy cares."""
    return {"name": name, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {"root_id": "kvasir", "failure_policy": "FAIL_RELOAD",
                   "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": str(FILTER)}}},
                   "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue",
                                     "value": json.dumps(config)}}}}


def bootstrap(objects):
    """The patches of an EnvoyFilter, applied to a gateway with one listener and one Service cluster."""
    patches = only(objects, "EnvoyFilter")["spec"]["configPatches"]
    manager = {"@type": HCM, "stat_prefix": "gateway", "http_filters": [ROUTER],
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "route": {"cluster": "engines"}}]}]}}
    listener = {"name": "gateway", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}}
    engines = {"name": "engines", "type": "STATIC", "load_assignment": endpoints("engines")}
    clusters, extensions = [engines], {}
    if named(objects, "WasmPlugin"):
        manager["http_filters"].insert(0, wasm_filter("plugin", plugin(objects)))
    for patch in patches:
        value, operation = patch["patch"].get("value"), patch["patch"]["operation"]
        match patch["applyTo"], operation:
            case "CLUSTER", "ADD":
                clusters.append(value)
            case "CLUSTER", "MERGE":
                engines |= value
            case "LISTENER", "MERGE":
                listener |= value
            case "NETWORK_FILTER", "MERGE":
                manager |= value["typed_config"]
            case "EXTENSION_CONFIG", "ADD":
                value["typed_config"]["config"]["vm_config"]["code"] = {"local": {"filename": str(FILTER)}}
                extensions[value["name"]] = value["typed_config"]
            case "HTTP_FILTER", "INSERT_BEFORE":
                if value["name"] in extensions:
                    value = {"name": value["name"], "typed_config": extensions[value["name"]]}
                manager["http_filters"].insert(-1, value)
            case "HTTP_FILTER", "REMOVE":
                pass
            case other:
                raise AssertionError(other)
    listener["filter_chains"] = [{"filters": [
        {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


@unittest.skipUnless(ENVOY and FILTER.exists(), "needs ENVOY_BIN and the built filter")
class EnvoyAccepts(unittest.TestCase):
    def accepted(self, config):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(config, file)
            file.flush()
            done = subprocess.run([ENVOY, "--mode", "validate", "--config-path", file.name, "--use-dynamic-base-id"],
                                  capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])

    def test_the_patches_of_both_istio_modes_and_both_backends(self):
        for name in ("istio-wasmplugin", "istio-envoyfilter", "full"):
            with self.subTest(name):
                self.accepted(bootstrap(rendered(VALUES[name])))
        service = ("gateway.backend=Service", "pools[1].targetPorts={8000}")
        self.accepted(bootstrap(rendered(VALUES["istio-envoyfilter"], service)))

    def test_filters_stand_in_the_order_in_which_the_choice_travels(self):
        def filters(name):
            config = bootstrap(rendered(VALUES[name]))
            listener, = config["static_resources"]["listeners"]
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            return [item["name"].removeprefix("envoy.filters.http.") for item in manager["http_filters"]]
        self.assertEqual(filters("istio-wasmplugin"), ["plugin", "buffer", "header_mutation", "header_to_metadata", "router"])
        self.assertEqual(filters("istio-envoyfilter"), ["kvasir.llm.kvasir", "header_to_metadata", "router"])

    def test_the_cluster_and_the_statistics_of_envoy_gateway(self):
        objects = rendered(VALUES["envoy-gateway"])
        cluster = only(objects, "EnvoyPatchPolicy")["spec"]["jsonPatches"][0]["operation"]["value"]
        stats = yaml.safe_load(only(objects, "EnvoyProxy")["spec"]["bootstrap"]["value"])
        self.accepted({**stats, "static_resources": {"clusters": [cluster]}})

    def test_what_is_wrong_is_not_accepted(self):
        config = bootstrap(rendered(VALUES["istio-envoyfilter"]))
        config["static_resources"]["clusters"][1]["connect_timeout"] = "soon"
        with self.assertRaises(AssertionError):
            self.accepted(config)


if __name__ == "__main__":
    unittest.main()
