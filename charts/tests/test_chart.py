"""The chart, rendered by a real Helm ($HELM, else `helm` on the search path): what is installed in each mode, what is
refused, and what has to agree with kvasir's own sources. An API server's word on the same objects is tested elsewhere."""

import base64
import functools
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "kvasir"
MODES = ["istio-wasmplugin", "istio-envoyfilter", "envoy-gateway", "standalone", "epp"]
VALUES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
EXAMPLES = {path.parent.name: path for path in sorted((ROOT / "examples").glob("*/values.yaml"))}
EXAMPLES |= {f"auth/{path.name}": path for path in sorted((ROOT / "examples/auth").glob("*-values.yaml"))}
POOL = ["pools[0].name=a", "pools[0].selector.app=a", "pools[0].targetPorts={8000}"]
WASM = ["wasm.url=oci://registry.example/filter:1"]


def helm(*arguments):
    # A Helm that Go's own tooling installed takes itself for one of Kubernetes 1.20.
    command = [os.environ.get("HELM", "helm"), *map(str, arguments), "--kube-version", "1.35.0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@functools.cache
def text(values=None, settings=(), release="kvasir"):
    arguments = ["template", release, CHART, "--namespace", "llm"]
    arguments += ["--values", values] if values else []
    for setting in settings:
        arguments += ["--set", setting]
    done = helm(*arguments)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout


def rendered(*arguments, **more):
    return [item for item in yaml.safe_load_all(text(*arguments, **more)) if item]


def named(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def only(objects, kind):
    found = named(objects, kind)
    assert len(found) == 1, f"{len(found)} of kind {kind}"
    return found[0]


def config(objects):
    maps = [item for item in named(objects, "ConfigMap") if "config.yaml" in item["data"]]
    return yaml.safe_load(maps[0]["data"]["config.yaml"])


def walk(value):
    """Every mapping in `value`."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from walk(item)


def plugin(objects):
    """What the filter reads, wherever the mode puts it."""
    for item in walk(objects):
        if "pluginConfig" in item:
            return item["pluginConfig"]
        if item.get("rootID") == "kvasir":
            return item["config"]
        if str(item.get("@type", "")).endswith("StringValue"):
            return json.loads(item["value"])
    return None


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def fields(source, struct):
    """Names of a Rust struct's fields, as the configuration spells them."""
    body = re.search(rf"pub struct {struct} \{{\n(.*?)\n\}}", source, re.DOTALL).group(1)
    return {camel(name) for name in re.findall(r"^    pub (\w+):", body, re.MULTILINE)}


class Renders(unittest.TestCase):
    def test_every_mode_and_every_example_renders_and_lints(self):
        self.assertEqual(set(MODES) - set(VALUES), set())
        self.assertGreaterEqual(len(EXAMPLES), 8)
        for name, path in {**VALUES, **EXAMPLES}.items():
            with self.subTest(name):
                self.assertTrue(rendered(path))
                linted = helm("lint", CHART, "--strict", "--values", path)
                self.assertEqual(linted.returncode, 0, linted.stdout + linted.stderr)

    def test_the_same_values_render_to_the_same_text(self):
        for name in MODES:
            first = text(VALUES[name])
            text.cache_clear()
            self.assertEqual(first, text(VALUES[name]))

    def test_names_stay_legal_with_the_longest_release_name(self):
        release = "r" * 53
        for name in MODES:
            for item in rendered(VALUES[name], release=release):
                self.assertLessEqual(len(item["metadata"]["name"]), 63, item["kind"])

    def test_names_that_yaml_takes_for_something_else_stay_names(self):
        for name in MODES:
            settings = ("gateway.name=no", "gateway.namespace=on", "pools[0].name=y", "nameOverride=off")
            for item in walk(rendered(VALUES[name], settings, release="n")):
                for key in ("name", "namespace", "app.kubernetes.io/instance", "app.kubernetes.io/name"):
                    self.assertIsInstance(item.get(key, ""), (str, dict), f"{name}: {key} of {item}")

    def test_every_container_is_confined(self):
        for name in VALUES:
            pod = only(rendered(VALUES[name]), "Deployment")["spec"]["template"]["spec"]
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            for container in pod["containers"] + pod.get("initContainers", []):
                context = container["securityContext"]
                self.assertTrue(context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"])
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
                self.assertIn("memory", container["resources"]["limits"])

    def test_the_filter_holds_where_the_host_lets_it_and_nowhere_else(self):
        for name, mode in {"istio-wasmplugin": "state", "istio-envoyfilter": "hold", "envoy-gateway": "hold"}.items():
            with self.subTest(name):
                objects = rendered(VALUES[name])
                self.assertEqual(plugin(objects)["mode"], mode)
                self.assertEqual("allow_on_headers_stop_iteration" in text(VALUES[name]), mode == "hold")
                self.assertEqual("%FILTER_STATE(wasm.kvasir.endpoint:PLAIN)%" in text(VALUES[name]), mode == "state")

    def test_every_gateway_that_runs_the_filter_has_the_cluster_that_the_filter_asks_for(self):
        for name in ("istio-wasmplugin", "istio-envoyfilter", "envoy-gateway"):
            objects = rendered(VALUES[name])
            clusters = [item for item in walk(objects) if "load_assignment" in item]
            self.assertEqual([cluster["name"] for cluster in clusters], [plugin(objects)["cluster"]])

    def test_one_body_limit_reaches_every_place(self):
        for name in (*MODES, "full", "namespaced"):
            with self.subTest(name):
                output = text(VALUES[name], ("maxBody=3MiB",))
                self.assertIsNone(re.search(r"33554432|34603008|67108864|68157440|32MiB|64MiB", output))
                objects = rendered(VALUES[name], ("maxBody=3MiB",))
                pools = config(objects).get("pools", [])
                self.assertTrue(all(pool["maxBody"] == "3MiB" for pool in pools))
                if plugin(objects):
                    self.assertEqual(plugin(objects)["max_body_bytes"], 3 << 20)
                    limits = [value for item in walk(objects) for key, value in item.items()
                              if key in ("max_request_bytes", "per_connection_buffer_limit_bytes", "bufferLimit")]
                    self.assertEqual({int(limit) for limit in limits}, {4 << 20})

    def test_sizes_are_read_as_kvasir_reads_them(self):
        for written, read in {"1024": 1024, "7KiB": 7168, "2GiB": 2 << 30, "5MB": 5_000_000}.items():
            objects = rendered(VALUES["envoy-gateway"], (f"maxBody={written}",))
            self.assertEqual(plugin(objects)["max_body_bytes"], read)

    def test_several_pools_are_told_apart_by_the_header_that_the_filter_sets(self):
        for name in ("istio-envoyfilter", "envoy-gateway"):
            objects = rendered(VALUES[name])
            self.assertNotIn("pool", plugin(objects))
            rules = only(objects, "HTTPRoute")["spec"]["rules"]
            headers = [rule["matches"][0].get("headers", [{"value": None}])[0]["value"] for rule in rules]
            self.assertEqual(headers, [None, "qwen"])
        self.assertEqual(plugin(rendered(VALUES["istio-wasmplugin"]))["pool"], "llama")

    def test_an_envoy_gateway_patch_finds_the_listener_and_the_filter_that_its_policy_makes(self):
        objects = rendered(VALUES["envoy-gateway"], ("fullnameOverride=x", "gateway.namespace=infra"))
        wasm, = only(objects, "EnvoyExtensionPolicy")["spec"]["wasm"]
        patches = only(objects, "EnvoyPatchPolicy")["spec"]["jsonPatches"][1:]
        self.assertEqual(len(patches), 3)
        for patch in patches:
            self.assertEqual(patch["name"], "infra/kvasir-gateway/http")
            self.assertIn(f"root_id=='{wasm['rootID']}'", patch["operation"]["jsonPath"])
        newer = only(rendered(VALUES["envoy-gateway"], ("envoyGateway.xdsNameSchemeV2=true",)), "EnvoyPatchPolicy")
        self.assertEqual({patch["name"] for patch in newer["spec"]["jsonPatches"][1:]}, {"tcp-80"})

    def test_namespaced_installs_have_no_cluster_role_and_nobody_may_write(self):
        for name in VALUES:
            objects = rendered(VALUES[name])
            roles = named(objects, "Role") + named(objects, "ClusterRole")
            scope = "ClusterRole" if name == "full" else "Role"
            self.assertEqual({role["kind"] for role in roles if not role["metadata"]["name"].endswith("-leader")}, {scope})
            for rule in (rule for role in roles for rule in role["rules"]):
                if rule["resources"] != ["leases"]:
                    self.assertEqual(rule["verbs"], ["list", "watch"])
        readable = {role["metadata"].get("namespace") for role in named(rendered(VALUES["namespaced"]), "Role")}
        self.assertEqual(readable, {"team-a", "team-b", "llm"})

    def test_gateway_and_control_plane_trust_the_same_authority(self):
        objects = rendered(VALUES["full"])
        secret = only(objects, "Secret")["data"]
        trusted = [item["inline_string"] for item in walk(objects) if "inline_string" in item]
        self.assertEqual(trusted, [base64.b64decode(secret["ca.crt"]).decode()])
        self.assertEqual(config(objects)["listen"]["tls"]["cert"], "/etc/kvasir/tls/tls.crt")

    def test_istio_is_told_to_speak_tls_to_our_picker(self):
        rule = only(rendered(VALUES["epp-tls"]), "DestinationRule")
        self.assertEqual(rule["spec"]["trafficPolicy"]["tls"]["mode"], "SIMPLE")
        port = only(rendered(VALUES["epp-tls"]), "Service")["spec"]["ports"][0]
        self.assertEqual((port["name"], port.get("appProtocol")), ("grpc", None))

    def test_a_setting_that_is_followed_restarts_nothing_and_one_that_is_not_does(self):
        def checksum(*settings):
            pod = only(rendered(VALUES["epp"], settings), "Deployment")["spec"]["template"]
            return pod["metadata"]["annotations"]["checksum/config"]
        self.assertEqual(checksum(), checksum("pools[0].settings.explain=true"))
        self.assertNotEqual(checksum(), checksum("pools[0].name=other"))


class Refuses(unittest.TestCase):
    def refused(self, *settings):
        arguments = [part for setting in settings for part in ("--set", setting)]
        done = helm("template", "kvasir", CHART, *arguments)
        self.assertNotEqual(done.returncode, 0, f"{settings} rendered")
        return done.stderr

    def test_a_misspelt_value_at_any_depth(self):
        for setting in ("replica=2", "gateway.mod=epp", "pools[0].setings.explain=true", "tls.enable=true",
                        "pools[0].settings.slo.tftt=1s", "standalone.envoy.worker=2", "discovery.defaults.maxBody=1"):
            with self.subTest(setting):
                self.assertIn("additional properties", self.refused("gateway.mode=epp", *POOL, setting))

    def test_combinations_that_would_install_and_not_work(self):
        two = [*POOL, "pools[1].name=b", "pools[1].selector.app=b", "pools[1].targetPorts={8000}"]
        for wanted, settings in {
            "gateway.mode: choose": POOL,
            "pools: name at least one": ["gateway.mode=epp"],
            "wasm.url: where": ["gateway.mode=istio-envoyfilter", *POOL],
            "serves one pool": ["gateway.mode=istio-wasmplugin", *WASM, *two],
            "routes to Services only": ["gateway.mode=envoy-gateway", *WASM, *POOL, "gateway.backend=InferencePool"],
            "which requests are for which pool": ["gateway.mode=epp", *two],
            "needs InferencePools": ["gateway.mode=epp", *POOL, "gateway.backend=Service"],
            "over oci://": ["gateway.mode=envoy-gateway", *POOL, "wasm.url=file:///x.wasm"],
            "wasm.pullSecret": ["gateway.mode=istio-envoyfilter", *WASM, *POOL, "wasm.pullSecret=x"],
            "discovery.attached: not in mode": ["gateway.mode=standalone", "discovery.attached=true"],
            "pools[1].name: a again": ["gateway.mode=standalone", *two, "pools[1].name=a"],
            "pools[0].targetPorts: needed": ["gateway.mode=epp", *POOL[:2]],
            "only one port is reached": ["gateway.mode=istio-envoyfilter", *WASM, *POOL, "gateway.backend=Service",
                                         "pools[0].targetPorts={1,2}"],
            "gateway.removeHeaders: not in mode epp": ["gateway.mode=epp", *POOL, "gateway.removeHeaders={x-tenant}"],
            "standalone.httpFilters: not in mode": ["gateway.mode=envoy-gateway", *WASM, *POOL,
                                                    "standalone.httpFilters[0].name=keys"],
            "tls.gatewayCa: needed": ["gateway.mode=istio-envoyfilter", *WASM, *POOL, "tls.enabled=true",
                                      "tls.source=secret"],
        }.items():
            with self.subTest(wanted):
                self.assertIn(wanted, self.refused(*settings))


class Agrees(unittest.TestCase):
    """With kvasir's own sources: what is said twice is said alike."""

    def setUp(self):
        self.schema = json.loads((CHART / "values.schema.json").read_text())
        self.raw = (ROOT / "controlplane/src/config/raw.rs").read_text()

    def test_every_value_has_a_schema_and_every_schema_a_value(self):
        def compare(schema, value, path):
            known = set(schema.get("properties", {})) - {"global", "claims"}
            if not known or not isinstance(value, dict):
                return
            self.assertEqual(known, set(value), path)
            self.assertIs(schema.get("additionalProperties"), False, path)
            for key in known:
                compare(schema["properties"][key], value[key], f"{path}.{key}")
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        values["resources"].setdefault("requests", {})
        compare(self.schema, values, "values")

    def test_a_pools_settings_are_those_of_the_configuration(self):
        settings = self.schema["$defs"]["poolSettings"]["properties"]
        elsewhere = {"name", "discovery", "maxBody"}
        self.assertEqual(set(settings), fields(self.raw, "Pool") - elsewhere)
        for struct, schema in {
            "Slo": settings["slo"], "Session": settings["session"], "Scrape": settings["scrape"],
            "Interval": settings["scrape"]["properties"]["interval"], "Health": settings["health"],
            "Exact": settings["exact"], "Events": settings["exact"]["properties"]["events"],
        }.items():
            self.assertEqual(set(schema["properties"]), fields(self.raw, struct), struct)

    def test_the_same_headers_are_taken_from_clients(self):
        source = (ROOT / "controlplane/src/envoy/listener.rs").read_text()
        constants = (ROOT / "controlplane/src/envoy.rs").read_text()
        listed = re.search(r"const OURS: .*?= \[(.*?)\];", source, re.DOTALL).group(1)
        ours = set()
        for item in re.findall(r'"[\w-]+"|[A-Z_]+', listed):
            name = re.search(rf'const {item}: &str = ("[\w-]+")', constants).group(1) if item.isupper() else item
            ours.add(name.strip('"'))
        for name in ("istio-wasmplugin", "istio-envoyfilter"):
            removed = [item["remove"] for item in walk(rendered(VALUES[name])) if isinstance(item.get("remove"), str)]
            self.assertEqual(set(removed), ours)
        policy = only(rendered(VALUES["envoy-gateway"]), "ClientTrafficPolicy")
        self.assertEqual(set(policy["spec"]["headers"]["earlyRequestHeaders"]["remove"]), ours)

    def test_headers_that_no_client_may_set_are_taken_off_in_every_mode_that_can(self):
        more = ("gateway.removeHeaders={x-tenant}",)
        for name in ("istio-wasmplugin", "istio-envoyfilter"):
            self.assertIn({"remove": "x-tenant"}, list(walk(rendered(VALUES[name], more))))
        policy = only(rendered(VALUES["envoy-gateway"], more), "ClientTrafficPolicy")
        self.assertIn("x-tenant", policy["spec"]["headers"]["earlyRequestHeaders"]["remove"])
        self.assertEqual(config(rendered(VALUES["standalone"], more))["gateway"]["removeHeaders"], ["x-tenant"])

    def test_examples_of_authentication_take_the_tenants_name_off_and_hand_envoys_filters_on(self):
        source = (ROOT / "shared/src/headers.rs").read_text()
        names = re.search(r"const FAIRNESS_ID: .*?= \[(.*?)\];", source).group(1)
        for name in (name for name in EXAMPLES if name.startswith("auth")):
            values = yaml.safe_load(EXAMPLES[name].read_text())
            self.assertEqual(values["gateway"]["removeHeaders"], re.findall(r'"([\w-]+)"', names), name)
        ours = yaml.safe_load((ROOT / "examples/auth/kvasir.yaml").read_text())["gateway"]
        self.assertEqual(ours["removeHeaders"], re.findall(r'"([\w-]+)"', names))
        filters = yaml.safe_load(EXAMPLES["auth"].read_text())["standalone"]["httpFilters"]
        self.assertEqual(config(rendered(EXAMPLES["auth"]))["gateway"]["httpFilters"], filters)

    def test_statistics_get_the_same_tags_and_bounds(self):
        source = (ROOT / "controlplane/src/envoy/bootstrap.rs").read_text()
        tags = re.findall(r'"(\w+)"', re.search(r"const TAGS.*?= \[(.*?)\]", source).group(1))
        buckets = re.search(r"const BUCKETS.*?\n\];", source, re.DOTALL).group(0)
        bounds = {name: [float(bound.replace("_", "")) for bound in re.findall(r"[\d_]+\.\d+", body)]
                  for name, body in re.findall(r'"(kvasir_\w+)",\s*&\[(.*?)\]', buckets, re.DOTALL)}
        bootstrap = only(rendered(VALUES["envoy-gateway"]), "EnvoyProxy")["spec"]["bootstrap"]
        stats = yaml.safe_load(bootstrap["value"])["stats_config"]
        self.assertEqual([tag["tag_name"] for tag in stats["stats_tags"]], tags)
        self.assertEqual({item["match"]["prefix"].removeprefix("wasmcustom."): [float(bound) for bound in item["buckets"]]
                          for item in stats["histogram_bucket_settings"]}, bounds)

    def test_the_dashboard_asks_for_metrics_that_exist(self):
        sources = "".join(path.read_text() for crate in ("controlplane", "filter")
                          for path in (ROOT / crate / "src").rglob("*.rs"))
        asked = set(re.findall(r"\bkvasir_\w+", (CHART / "dashboards/kvasir.json").read_text()))
        self.assertGreater(len(asked), 15)
        for name in asked:
            bare = re.sub(r"_(total|bucket)$", "", name.removeprefix("kvasir_"))
            self.assertRegex(sources, rf'"(kvasir_)?{bare}(_total)?["|]', name)

    def test_kvasir_accepts_the_configuration_of_every_mode(self):
        binary = pathlib.Path(os.environ.get("KVASIR_BIN", ROOT / "target/debug/kvasir"))
        if not binary.exists():
            self.skipTest(f"no {binary}; build it, or set KVASIR_BIN")
        for name, path in {**VALUES, **EXAMPLES}.items():
            with self.subTest(name), tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump(config(rendered(path)), file)
                file.flush()
                done = subprocess.run([binary, "check", "--config", file.name], capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
