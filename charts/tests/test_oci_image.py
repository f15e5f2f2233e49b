"""The OCI layouts that `oci_image.py` writes, read back as Istio's agent and Envoy Gateway read them."""

import gzip
import hashlib
import io
import json
import pathlib
import struct
import sys
import tarfile
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import oci_image  # noqa: E402

MODULE = b"\0asm\x01\0\0\0" + bytes(range(256)) * 40


def elf(kinds, machine=62):
    """The smallest 64-bit ELF file with program headers of these kinds."""
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<H", header, 18, machine)
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, len(kinds))
    return bytes(header) + b"".join(struct.pack("<I", kind) + bytes(52) for kind in kinds)


class Layout:
    """A layout as a reader sees it; every blob is checked against its name."""

    def __init__(self, folder):
        self.folder = folder
        self.version = json.loads((folder / "oci-layout").read_text())
        entry, = json.loads((folder / "index.json").read_text())["manifests"]
        self.entry = entry
        self.manifest = json.loads(self.blob(entry))
        self.config = json.loads(self.blob(self.manifest["config"]))

    def blob(self, descriptor):
        algorithm, name = descriptor["digest"].split(":")
        data = (self.folder / "blobs" / algorithm / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == name
        assert len(data) == descriptor["size"]
        return data

    def layers(self):
        for descriptor, diff_id in zip(self.manifest["layers"], self.config["rootfs"]["diff_ids"], strict=True):
            plain = gzip.decompress(self.blob(descriptor))
            assert "sha256:" + hashlib.sha256(plain).hexdigest() == diff_id
            yield tarfile.open(fileobj=io.BytesIO(plain))


class OciImage(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def test_the_last_layer_of_a_filter_image_holds_plugin_wasm(self):
        name = oci_image.filter_image(MODULE, self.folder / "a", "1.2.3")
        layout = Layout(self.folder / "a")
        self.assertEqual(layout.version, {"imageLayoutVersion": "1.0.0"})
        self.assertEqual(layout.entry["digest"], name)
        self.assertEqual(layout.entry["annotations"]["org.opencontainers.image.ref.name"], "1.2.3")
        self.assertEqual(layout.manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json")
        self.assertEqual(layout.manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json")
        self.assertEqual([layer["mediaType"] for layer in layout.manifest["layers"]],
                         ["application/vnd.oci.image.layer.v1.tar+gzip"])
        self.assertEqual(layout.manifest["annotations"], {"module.wasm.image/variant": "compat"})
        archive, = layout.layers()
        self.assertEqual(archive.getnames(), ["plugin.wasm"])
        self.assertEqual(archive.extractfile("plugin.wasm").read(), MODULE)

    def test_the_same_module_has_the_same_digest_and_another_has_another(self):
        digests = [oci_image.filter_image(module, self.folder / str(index), "t")
                   for index, module in enumerate([MODULE, MODULE, MODULE + b"\0"])]
        self.assertEqual(digests[0], digests[1])
        self.assertNotEqual(digests[0], digests[2])

    def test_a_tag_does_not_change_the_digest(self):
        digests = {oci_image.filter_image(MODULE, self.folder / tag, tag) for tag in ("a", "b")}
        self.assertEqual(len(digests), 1)

    def test_what_is_no_module_is_refused(self):
        with self.assertRaisesRegex(oci_image.Refused, "not a WebAssembly module"):
            oci_image.filter_image(b"<html>404</html>", self.folder, "t")

    def test_the_control_plane_runs_as_nobody_and_finds_the_filter(self):
        binary = elf([1, 2])
        oci_image.controlplane_image(binary, MODULE, self.folder, "t")
        layout = Layout(self.folder)
        self.assertEqual(layout.config["config"]["Entrypoint"], ["/usr/bin/kvasir"])
        self.assertEqual(layout.config["config"]["User"], "65532:65532")
        self.assertEqual((layout.config["architecture"], layout.config["os"]), ("amd64", "linux"))
        files = {}
        for archive in layout.layers():
            files |= {entry.name: (oct(entry.mode), entry.mtime) for entry in archive.getmembers() if entry.isfile()}
        self.assertEqual(files, {"usr/bin/kvasir": ("0o755", 0), "etc/nsswitch.conf": ("0o644", 0),
                                 "usr/share/kvasir/kvasir_filter.wasm": ("0o644", 0)})

    def test_a_dynamic_binary_is_refused_with_the_way_to_build_a_static_one(self):
        with self.assertRaisesRegex(oci_image.Refused, "crt-static"):
            oci_image.controlplane_image(elf([1, 3]), MODULE, self.folder, "t")

    def test_the_architecture_is_the_binarys(self):
        self.assertEqual(oci_image.architecture_of(elf([1], machine=183)), "arm64")
        with self.assertRaisesRegex(oci_image.Refused, "machine 243"):
            oci_image.architecture_of(elf([1], machine=243))


if __name__ == "__main__":
    unittest.main()
