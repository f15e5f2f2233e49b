"""TLS between gateway and control plane as the chart sets it up, on the wire: a real Envoy ($ENVOY_BIN) with the chart's own
cluster asks a control plane ($KVASIR_BIN), with the chart's certificates, for its health. Paths in pods become a folder's."""

import base64
import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import urllib.request

import yaml

from test_chart import CHART, POOL, VALUES, WASM, config, helm, named, only, rendered, text, walk
from test_envoy_accepts import ENVOY
from test_istio_traffic import KVASIR, address, eventually

MODES = ["istio-wasmplugin", "istio-envoyfilter", "envoy-gateway"]
CLIENT = "/etc/kvasir-client"
FILES = ("tls.gatewayCa.file=/etc/kvasir-ca/ca.crt",)
MUTUAL = ("tls.clientAuth.caSecretName=gateways", f"tls.clientAuth.certFile={CLIENT}/tls.crt",
          f"tls.clientAuth.keyFile={CLIENT}/tls.key")
# Longer than what fits into the common name of a certificate.
LONG = ("fullnameOverride=" + "k" * 52, "clusterDomain=" + "a-cluster-with-a-long-name.example.internal")


def secured(mode, *settings):
    return rendered(VALUES[mode], ("tls.enabled=true", *settings))


def cluster(objects):
    found, = [item for item in walk(objects) if item.get("name") == "kvasir-controlplane" and "load_assignment" in item]
    return json.loads(json.dumps(found))


def material(objects):
    return {name: base64.b64decode(value) for name, value in only(objects, "Secret")["data"].items()}


@unittest.skipUnless(KVASIR.exists(), "needs kvasir")
class TlsAgrees(unittest.TestCase):
    def test_kvasir_renders_the_same_cluster_for_an_envoy_of_our_own(self):
        chart = cluster(secured("envoy-gateway", *FILES, *MUTUAL))
        gateway = {"controlPlane": "kvasir.llm.svc.cluster.local:9002",
                   "tls": {"ca": "/etc/kvasir-ca/ca.crt", "cert": f"{CLIENT}/tls.crt", "key": f"{CLIENT}/tls.key"}}
        own = {"listen": config(secured("envoy-gateway", *FILES, *MUTUAL))["listen"], "gateway": gateway,
               "pools": [{"name": "llama", "discovery": {"static": {"endpoints": []}}}]}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(own, file)
            file.flush()
            done = subprocess.run([KVASIR, "envoy", "--config", file.name], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(cluster(json.loads(done.stdout)), chart)


class TlsRefuses(unittest.TestCase):
    def test_half_a_client_certificate_and_none_where_one_is_asked_for(self):
        for wanted, settings in {
            "tls.clientAuth.keyFile: needed with certFile": MUTUAL[1:2],
            "tls.clientAuth.certFile: needed with keyFile": MUTUAL[2:],
            "tls.clientAuth.certFile: needed with caSecretName": MUTUAL[:1],
        }.items():
            for mode in MODES:
                with self.subTest(f"{mode}: {wanted}"):
                    arguments = [part for setting in (f"gateway.mode={mode}", "tls.enabled=true", *POOL, *WASM, *settings)
                                 for part in ("--set", setting)]
                    done = helm("template", "kvasir", CHART, *arguments)
                    self.assertNotEqual(done.returncode, 0, done.stdout)
                    self.assertIn(wanted, done.stderr)


@unittest.skipUnless(ENVOY and KVASIR.exists(), "needs ENVOY_BIN and kvasir")
class TlsTraffic(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def start(self, *command):
        process = subprocess.Popen([*map(str, command)], cwd=self.folder, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

    def moved(self, value):
        """The same with paths of pods in our folder."""
        return json.loads(json.dumps(value).replace('"/etc/', f'"{self.folder}/etc/'))

    def put(self, path, data):
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def control_plane(self, objects, client_ca):
        """Starts it with the Secret where its pod has it; its address."""
        for name, data in material(objects).items():
            self.put(f"/etc/kvasir/tls/{name}", data)
        self.put("/etc/kvasir/client-ca/ca.crt", client_ca)
        listen = {**self.moved(config(objects)["listen"]), "grpc": "127.0.0.1:0", "http": "127.0.0.1:0"}
        pools = [{"name": "llama", "discovery": {"static": {"endpoints": []}}}]
        (self.folder / "kvasir.json").write_text(json.dumps({"listen": listen, "pools": pools}))
        self.start(KVASIR, "serve", "--config", "kvasir.json", "--ready-file", "kvasir.ready")
        return eventually("kvasir.ready", lambda: json.loads((self.folder / "kvasir.ready").read_text()))["grpc"]

    def gateway(self, name, objects, control_plane):
        """Starts an Envoy with the chart's cluster; what reads its statistics."""
        ours = self.moved(cluster(objects))
        ours["load_assignment"]["endpoints"][0]["lb_endpoints"] = [{"endpoint": {"address": address(control_plane)}}]
        ours["health_checks"] = [{"timeout": "1s", "interval": "0.1s", "no_traffic_interval": "0.1s",
                                  "unhealthy_threshold": 1, "healthy_threshold": 1, "grpc_health_check": {}}]
        (self.folder / f"{name}.json").write_text(json.dumps({
            "node": {"id": name, "cluster": "test"}, "admin": {"address": address("127.0.0.1:0")},
            "static_resources": {"clusters": [ours]}}))
        self.start(ENVOY, "--config-path", f"{name}.json", "--admin-address-path", f"{name}.admin",
                   "--concurrency", 1, "--use-dynamic-base-id")

        def statistic(asked):
            admin = (self.folder / f"{name}.admin").read_text()
            with urllib.request.urlopen(f"http://{admin}/stats?format=json", timeout=10) as answer:
                found = {item.get("name"): item.get("value") for item in json.load(answer)["stats"]}
            return found[f"cluster.kvasir-controlplane.{asked}"]
        return statistic

    def assert_reached(self, statistic):
        eventually("a healthy control plane", lambda: statistic("health_check.success") > 1)
        self.assertGreater(statistic("ssl.handshake"), 0)
        self.assertEqual(statistic("membership_healthy"), 1)

    def assert_not_reached(self, statistic, reason):
        eventually(reason, lambda: statistic(reason) > 1)
        self.assertEqual(statistic("health_check.success"), 0)

    def test_every_mode_reaches_the_control_plane_with_what_helm_made(self):
        for number, (mode, settings) in enumerate([(mode, ()) for mode in MODES] + [("envoy-gateway", LONG)]):
            with self.subTest(f"{mode} {settings}"):
                self.setUp()
                objects = secured(mode, *settings)
                control_plane = self.control_plane(objects, b"")
                self.assert_reached(self.gateway(f"gateway-{number}", objects, control_plane))

    def test_another_installations_control_plane_is_not_accepted(self):
        objects = secured("envoy-gateway")
        control_plane = self.control_plane(objects, b"")
        other = self.gateway("other", secured("envoy-gateway", "replicas=1"), control_plane)
        self.assert_not_reached(other, "ssl.fail_verify_error")
        renamed = cluster(objects)
        san = renamed["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
        san["match_typed_subject_alt_names"][0]["matcher"]["exact"] = "kvasir.other.svc.cluster.local"
        self.assert_not_reached(self.gateway("renamed", [renamed], control_plane), "ssl.fail_verify_san")

    def test_files_in_the_gateways_pods_and_mutual_tls(self):
        objects = secured("istio-envoyfilter", *FILES, *MUTUAL)
        made = material(objects)
        control_plane = self.control_plane(objects, made["ca.crt"])
        self.put("/etc/kvasir-ca/ca.crt", made["ca.crt"])
        # Helm's certificates serve either side.
        self.put(f"{CLIENT}/tls.crt", made["tls.crt"])
        self.put(f"{CLIENT}/tls.key", made["tls.key"])
        self.assert_reached(self.gateway("gateway", objects, control_plane))
        bare = cluster(objects)
        del bare["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
        self.assert_not_reached(self.gateway("bare", [bare], control_plane), "health_check.failure")


if __name__ == "__main__":
    unittest.main()
