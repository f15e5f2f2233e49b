#!/usr/bin/env python3
"""Packs what was built as OCI image layouts, without a container engine.

  oci_image.py filter MODULE FOLDER [--tag TAG]                      the Wasm module, for Istio and Envoy Gateway
  oci_image.py controlplane BINARY FOLDER --filter MODULE [--tag TAG]   the control plane, a static binary, with the module

The same input gives the same digests: no times, no names, sorted keys. Push with any tool that reads layouts, as in
`skopeo copy oci:FOLDER:TAG docker://registry.example/kvasir-filter:TAG`.

Istio's agent and Envoy Gateway read the "compat" form of a Wasm image: the last layer is a tar+gzip that holds
`plugin.wasm`. Where they ask for a checksum of an oci:// module they mean the manifest's digest; of an http:// module,
the module's own.
"""

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import struct
import sys
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
NOBODY = "65532:65532"
ARCHITECTURES = {62: "amd64", 183: "arm64"}
INTERPRETER = 3  # PT_INTERP: the program header that names a dynamic loader


class Refused(Exception):
    """The input cannot become the image that was asked for."""


def canonical(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files):
    """A tar of `files` (path -> (mode, bytes)), with the folders above them, and its gzip."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folders = sorted({str(parent) for path in files for parent in pathlib.PurePosixPath(path).parents} - {"."})
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, (mode, data) in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0) as stream:
        stream.write(plain.getvalue())
    return plain.getvalue(), packed.getvalue()


def write(folder, layers, architecture, run, annotations, tag):
    """Writes the layout and returns the manifest's digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(data, media_type):
        name = digest(data)
        (blobs / name.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data)}

    packed = [layer(files) for files in layers]
    config = {"architecture": architecture, "os": "linux", "config": run,
              "rootfs": {"type": "layers", "diff_ids": [digest(plain) for plain, _ in packed]}}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": put(canonical(config), CONFIG),
                "layers": [put(data, LAYER) for _, data in packed]}
    if annotations:
        manifest["annotations"] = annotations
    entry = put(canonical(manifest), MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    if architecture:
        entry["platform"] = {"architecture": architecture, "os": "linux"}
    (folder / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(canonical({"schemaVersion": 2, "manifests": [entry]}))
    return entry["digest"]


def is_wasm(module):
    return module[:8] == b"\0asm\x01\0\0\0"


def filter_image(module, folder, tag):
    """The module as a Wasm image; returns the manifest's digest."""
    if not is_wasm(module):
        raise Refused("not a WebAssembly module")
    # Gateways that resolve platforms look for linux/amd64, whatever they run on: the module runs everywhere.
    annotations = {"module.wasm.image/variant": "compat"}
    return write(folder, [{"plugin.wasm": (0o644, module)}], "amd64", {}, annotations, tag)


def architecture_of(binary):
    """The architecture of a static ELF binary for Linux."""
    if binary[:5] != b"\x7fELF\x02":
        raise Refused("not a 64-bit ELF binary")
    machine, = struct.unpack_from("<H", binary, 18)
    if machine not in ARCHITECTURES:
        raise Refused(f"ELF machine {machine} is neither amd64 nor arm64")
    start, = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    kinds = [struct.unpack_from("<I", binary, start + index * size)[0] for index in range(count)]
    if INTERPRETER in kinds:
        raise Refused("it is linked dynamically, and the image holds nothing to load it with; build it with "
                      "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --package controlplane "
                      "--target x86_64-unknown-linux-gnu (or a musl target)")
    return ARCHITECTURES[machine]


def controlplane_image(binary, module, folder, tag):
    """The control plane's image; returns the manifest's digest.

    No CA roots: the API server's come with the pod's service account, and everything else is reached without TLS or by
    certificates that the configuration names. No shell, no user database: the user is a number.
    """
    architecture = architecture_of(binary)
    if not is_wasm(module):
        raise Refused("not a WebAssembly module")
    layers = [{"usr/share/kvasir/kvasir_filter.wasm": (0o644, module)},
              {"usr/bin/kvasir": (0o755, binary), "etc/nsswitch.conf": (0o644, b"hosts: files dns\n")}]
    run = {"Entrypoint": ["/usr/bin/kvasir"], "User": NOBODY, "WorkingDir": "/",
           "ExposedPorts": {"9002/tcp": {}, "9090/tcp": {}}}
    return write(folder, layers, architecture, run, {}, tag)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name in ("filter", "controlplane"):
        kind = kinds.add_parser(name)
        kind.add_argument("input", type=pathlib.Path, metavar="MODULE" if name == "filter" else "BINARY")
        kind.add_argument("folder", type=pathlib.Path)
        kind.add_argument("--tag", default="latest")
    kinds.choices["controlplane"].add_argument("--filter", type=pathlib.Path, required=True, metavar="MODULE")
    asked = parser.parse_args()
    data = asked.input.read_bytes()
    try:
        if asked.kind == "filter":
            name = filter_image(data, asked.folder, asked.tag)
            print(f"{asked.folder}  manifest {name} (wasm.sha256 for oci://)")
            print(f"{asked.input}  module {digest(data)} (wasm.sha256 for http://)")
        else:
            name = controlplane_image(data, asked.filter.read_bytes(), asked.folder, asked.tag)
            print(f"{asked.folder}  manifest {name} (image.digest)")
    except Refused as refusal:
        sys.exit(f"oci_image.py: {asked.input}: {refusal}")


if __name__ == "__main__":
    main()
