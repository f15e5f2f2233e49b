#!/usr/bin/env bash
# Builds everything, starts simulated vLLM engines, the control plane and a real Envoy with the filter, sends a
# multi-tenant chat workload through plain round robin and through Kvasir, and shows both side by side.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

for tool in cargo python3; do
  command -v "$tool" >/dev/null || { echo "the quickstart needs $tool: install it and run this again" >&2; exit 1; }
done
case "${1:-}" in
-h | --help) exec python3 "$here/quickstart.py" --help ;;
esac

echo "building (the first time takes some minutes)"
cargo build --locked --package controlplane --package vllm-sim
./wasm-build.sh
ENVOY_BIN=$(tests/envoy-binary.sh)
export ENVOY_BIN
exec python3 "$here/quickstart.py" --binaries "${CARGO_TARGET_DIR:-target}/debug" --wasm target/wasm/kvasir_filter.wasm "$@"
