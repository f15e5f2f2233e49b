"""Server-side dry runs of the chart and the examples against a real API server ($KVASIR_TEST_KUBECONFIG) that has the
definitions of everything they use: Gateway API, Inference Extension, Istio, Envoy Gateway, cert-manager, Prometheus operator,
LeaderWorkerSet, KServe. Unknown fields are errors."""

import os
import subprocess
import unittest

import yaml

from test_chart import EXAMPLES, VALUES, text

KUBECONFIG = os.environ.get("KVASIR_TEST_KUBECONFIG", "")


def kubectl(*arguments, stdin=""):
    command = ["kubectl", "--kubeconfig", KUBECONFIG, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300)


@unittest.skipUnless(KUBECONFIG, "needs KVASIR_TEST_KUBECONFIG")
class ApiServerAccepts(unittest.TestCase):
    def accepted(self, objects, *arguments):
        done = kubectl("apply", "--dry-run=server", "--validate=strict", *arguments, "--filename", "-", stdin=objects)
        self.assertEqual(done.returncode, 0, done.stderr)
        count = sum(1 for item in yaml.safe_load_all(objects) if item)
        self.assertEqual(done.stdout.count("(server dry run)"), count)

    def setUp(self):
        rendered = "".join(text(path) for path in (*VALUES.values(), *EXAMPLES.values()))
        names = {item["metadata"].get("namespace", "llm") for item in yaml.safe_load_all(rendered) if item}
        for name in names:
            kubectl("create", "namespace", name)

    def test_every_object_of_every_mode(self):
        for name, path in VALUES.items():
            with self.subTest(name):
                self.accepted(text(path))

    def test_every_object_of_every_example(self):
        for name, path in EXAMPLES.items():
            with self.subTest(name):
                self.accepted(text(path))
                # Values are Helm's, and kvasir.yaml is our own.
                manifests = [file for file in sorted(path.parent.glob("*.yaml"))
                             if not file.name.endswith(("values.yaml", "kvasir.yaml"))]
                self.accepted("\n---\n".join(file.read_text() for file in manifests), "--namespace", "llm")

    def test_what_is_misspelt_is_not_accepted(self):
        with self.assertRaises(AssertionError):
            self.accepted(text(VALUES["istio-envoyfilter"]).replace("configPatches:", "configPatch:"))


if __name__ == "__main__":
    unittest.main()
