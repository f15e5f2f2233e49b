"""Traffic through the patches of both Istio modes: a real Envoy ($ENVOY_BIN) with the built filter, a control plane
($KVASIR_BIN) and simulated engines ($VLLM_SIM_BIN). The cluster is what Istio makes of an InferencePool: it reads the choice
from metadata only, which the chart's patches have to fill from what the filter says."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from test_chart import ROOT, VALUES, rendered
from test_envoy_accepts import ENVOY, FILTER, bootstrap

KVASIR = pathlib.Path(os.environ.get("KVASIR_BIN", ROOT / "target/debug/kvasir"))
ENGINES = pathlib.Path(os.environ.get("VLLM_SIM_BIN", ROOT / "target/debug/vllm-sim"))
LB = "type.googleapis.com/envoy.extensions.load_balancing_policies"
DEADLINE = 60


def eventually(what, attempt):
    """What `attempt` returns once that is something."""
    until, error = time.monotonic() + DEADLINE, None
    while time.monotonic() < until:
        try:
            if answer := attempt():
                return answer
        except (OSError, ValueError, KeyError, IndexError) as failed:
            error = failed
        time.sleep(0.1)
    raise AssertionError(f"not within {DEADLINE} s: {what}; {error!r}")


def inference_pool_cluster(engines):
    """As Istio builds it for a gateway."""
    source = {"metadata": {"key": "envoy.lb", "path": [{"key": "x-gateway-destination-endpoint"}]}}
    fallback = {"name": "round_robin", "typed_config": {"@type": f"{LB}.round_robin.v3.RoundRobin"}}
    policy = {"@type": f"{LB}.override_host.v3.OverrideHost", "override_host_sources": [source],
              "fallback_policy": {"policies": [{"typed_extension_config": fallback}]}}
    hosts = [{"endpoint": {"address": address(engine)}} for engine in engines]
    return {"name": "engines", "type": "STATIC",
            "load_assignment": {"cluster_name": "engines", "endpoints": [{"lb_endpoints": hosts}]},
            "load_balancing_policy": {"policies": [{"typed_extension_config": {
                "name": "envoy.load_balancing_policies.override_host", "typed_config": policy}}]}}


def address(text):
    host, port = text.rsplit(":", 1)
    return {"socket_address": {"address": host, "port_value": int(port)}}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@unittest.skipUnless(ENVOY and all(path.exists() for path in (FILTER, KVASIR, ENGINES)),
                     "needs ENVOY_BIN, the built filter, kvasir and vllm-sim")
class IstioTraffic(unittest.TestCase):
    def start(self, *command):
        process = subprocess.Popen([*map(str, command)], cwd=self.folder, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

    def ready(self, name):
        return eventually(name, lambda: json.loads((self.folder / name).read_text()))

    def gateway(self, mode):
        """Starts everything; the engines' addresses."""
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.start(ENGINES, "--port", 0, "--engines", 4, "--speedup", 10, "--ready-file", "engines.json")
        engines = self.ready("engines.json")
        config = {"listen": {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0"},
                  "pools": [{"name": "llama", "explain": True, "maxBody": "1MiB",
                             "discovery": {"static": {"endpoints": engines}}}]}
        (self.folder / "kvasir.json").write_text(json.dumps(config))
        self.start(KVASIR, "serve", "--config", "kvasir.json", "--ready-file", "kvasir.ready")
        control_plane = self.ready("kvasir.ready")["grpc"]

        envoy = bootstrap(rendered(VALUES[mode], ("maxBody=1MiB",)))["static_resources"]
        port = free_port()
        envoy["listeners"][0]["address"] = address(f"127.0.0.1:{port}")
        ours = next(cluster for cluster in envoy["clusters"] if cluster["name"] == "kvasir-controlplane")
        ours["load_assignment"]["endpoints"][0]["lb_endpoints"] = [{"endpoint": {"address": address(control_plane)}}]
        envoy["clusters"] = [ours, inference_pool_cluster(engines)]
        (self.folder / "envoy.json").write_text(json.dumps({"node": {"id": "gateway", "cluster": "test"},
                                                            "static_resources": envoy}))
        self.start(ENVOY, "--config-path", "envoy.json", "--concurrency", 2, "--disable-hot-restart")
        self.url = f"http://127.0.0.1:{port}"
        self.model = eventually("models", lambda: self.call("/v1/models")[2]["data"][0]["id"])
        eventually("a decision", lambda: "x-kvasir-decision" in self.chat("hello")[1])
        return engines

    def call(self, path, body=None, headers=()):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json", **dict(headers)})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, {key.lower(): value for key, value in answer.headers.items()}, json.load(answer)
        except urllib.error.HTTPError as answer:
            return answer.code, {key.lower(): value for key, value in answer.headers.items()}, json.load(answer)

    def chat(self, text, headers=()):
        body = {"model": self.model, "max_tokens": 1, "messages": [{"role": "user", "content": text}]}
        return self.call("/v1/chat/completions", body, {"x-kvasir-explain": "1", **dict(headers)})

    def test_the_choice_reaches_the_engine_whatever_the_client_claims(self):
        for mode in ("istio-wasmplugin", "istio-envoyfilter"):
            with self.subTest(mode):
                engines = self.gateway(mode)
                served = set()
                for number in range(40):
                    claim = {"x-gateway-destination-endpoint": engines[number % 4], "x-kvasir-pool": "other"}
                    status, headers, _ = self.chat(f"tenant {number % 8} " * 400, claim)
                    self.assertEqual(status, 200)
                    decision = json.loads(headers["x-kvasir-decision"])
                    first = [item["endpoint"] for item in decision["candidates"] if item.get("choice") == 1]
                    self.assertEqual(first, [headers["x-sim-engine"]])
                    served.add(headers["x-sim-engine"])
                self.assertGreater(len(served), 1)

                status, _, body = self.call("/v1/completions", {"model": self.model, "prompt": "a" * 1_100_000})
                self.assertEqual((status, body["error"]["code"]), (413, "request_too_large"))
                self.assertIn("1048576", body["error"]["message"])


if __name__ == "__main__":
    unittest.main()
