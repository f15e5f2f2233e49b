#!/usr/bin/env bash
# Runs every test there is, after all set-up, and ends with the counts.
#
#   tests/run.sh                 everything
#   tests/run.sh unit wasm       only these suites
#   tests/run.sh --list          names the suites
#
# unit           format, lints, unit and property tests of every crate, the lab's policy bars, dependency rules
# wasm           builds the filter, checks imports and size, golden cost cases inside the module
# envoy          end-to-end tests on a real Envoy, and the quickstart
# kubernetes     what is relied on in Kubernetes, asked of a real API server, and a whole gateway on it with a real Envoy
# envoy-gateway  the filter attached by Envoy Gateway, on a real Envoy
# istio          what Istio makes of the chart, taken over by a real Envoy
# helm           the chart: linter, server-side dry run, installation and upgrade on a real API server
# docs           rustdoc without warnings; every command and link in the README exists
set -euo pipefail
cd "$(dirname "$0")/.."

SUITES=(unit wasm envoy kubernetes envoy-gateway istio helm docs)
case "${1:-}" in
-h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
--list) printf '%s\n' "${SUITES[@]}"; exit ;;
esac
chosen=("$@")
[ ${#chosen[@]} -gt 0 ] || chosen=("${SUITES[@]}")
for suite in "${chosen[@]}"; do
  case " ${SUITES[*]} " in
  *" $suite "*) ;;
  *) echo "$0: no suite $suite; there are: ${SUITES[*]}" >&2; exit 2 ;;
  esac
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
started=$SECONDS

# Runs one step; its output goes to the screen and into the log that the counts are read from.
step() {
  local name=$1 begun=$SECONDS
  shift
  echo "=== $name"
  if "$@" 2>&1 | tee -a "$log"; then
    echo "=== $name: ok, $((SECONDS - begun)) s"
  else
    failed+=("$name")
    echo "=== $name: FAILED, $((SECONDS - begun)) s"
  fi
}

need() {
  command -v "$1" >/dev/null && return
  echo "NOT RUN: $2 needs $1" | tee -a "$log"
  [ "${CI:-}" = true ] && failed+=("$2 (no $1)")
  return 1
}

unit() {
  need cargo unit || return 0
  step format cargo fmt --all --check
  step lints cargo clippy --quiet --locked --workspace --all-targets -- --deny warnings
  # `host` needs the built module, `e2e` and the tests of `kvasir-bench` an Envoy, `cluster` an API server: they are in the
  # other suites.
  step "unit tests" cargo test --quiet --locked --no-fail-fast --workspace --exclude host --exclude e2e --exclude cluster --exclude kvasir-bench
  step "unit tests of the benchmark" cargo test --quiet --locked --package kvasir-bench --bins
  step "the filter does not depend on tokio" bash -c '
    ! cargo tree --locked --package filter --target wasm32-wasip1 --edges normal --prefix none | grep -E "^(tokio|tonic|kube|reqwest) "'
}

wasm() {
  need cargo wasm || return 0
  step "wasm build" ./wasm-build.sh
  step "wasm lints" cargo clippy --quiet --locked --package filter --package shared --target wasm32-wasip1 -- --deny warnings
  step "wasm tests" cargo test --quiet --locked --package host
}

envoy() {
  need python3 envoy || return 0
  step "wasm build" ./wasm-build.sh
  step "binaries" cargo build --quiet --locked --package controlplane --package vllm-sim
  local binary
  if ! binary=$(tests/envoy-binary.sh); then
    failed+=("envoy (no Envoy)")
    return 0
  fi
  ENVOY_BIN=$binary step "end to end" cargo test --quiet --locked --no-fail-fast --package e2e
  ENVOY_BIN=$binary step "the benchmark runs" cargo test --quiet --locked --package kvasir-bench --test overhead
  ENVOY_BIN=$binary step quickstart examples/quickstart/run.sh --check
  ENVOY_BIN=$binary step "quickstart, exact" examples/quickstart/run.sh --check --exact
}

# For all chosen suites at once: what Go compiles for one tool serves the next, and goes when the script ends.
kubernetes-tools() {
  local wanted=() suite
  for suite in "${chosen[@]}"; do
    case $suite in
    kubernetes) wanted+=(apiserver etcd kubectl helm crds lwepp) ;;
    helm) wanted+=(apiserver etcd kubectl helm crds) ;;
    envoy-gateway) wanted+=(envoy-gateway) ;;
    istio) wanted+=(apiserver etcd kubectl helm crds istiod) ;;
    esac
  done
  tests/kubernetes-tools.sh "${wanted[@]}"
}

# on_kubernetes SUITE CARGO-TEST-ARGUMENTS
on_kubernetes() {
  need go "$1" && need python3 "$1" || return 0
  local tools
  if ! tools=$(kubernetes-tools); then
    failed+=("$1 (no Kubernetes)")
    return 0
  fi
  KUBE_TOOLS=$tools step "$1" cargo test --quiet --locked --no-fail-fast --package cluster "${@:2}"
}

# on_envoy SUITE CARGO-TEST-ARGUMENTS: with an Envoy, the built filter, and what the chosen suites need of Kubernetes.
on_envoy() {
  need go "$1" && need python3 "$1" || return 0
  step "wasm build" ./wasm-build.sh
  step "binaries" cargo build --quiet --locked --package controlplane --package vllm-sim
  local binary tools
  if ! binary=$(tests/envoy-binary.sh) || ! tools=$(kubernetes-tools); then
    failed+=("$1 (no Envoy, or no Kubernetes)")
    return 0
  fi
  ENVOY_BIN=$binary KUBE_TOOLS=$tools step "$1" cargo test --quiet --locked --no-fail-fast --package cluster "${@:2}"
}

envoy-gateway() { on_envoy envoy-gateway --test envoy_gateway; }
istio() { on_envoy istio --test istio; }
kubernetes() { on_envoy kubernetes --lib --test kubernetes --test discovery --test gateway; }

helm() {
  on_kubernetes helm --test helm
  local tools
  tools=$(kubernetes-tools) || return 0
  step "python for the chart" bash -c '
    [ -x target/python/bin/python ] || python3 -m venv target/python
    target/python/bin/pip install --quiet --disable-pip-version-check PyYAML==6.0.3'
  HELM=$tools/bin/helm step chart target/python/bin/python -m unittest discover charts/tests
}

docs() {
  need python3 docs || return 0
  RUSTDOCFLAGS="--deny warnings" step rustdoc cargo doc --quiet --locked --workspace --no-deps
  step "README" python3 tests/check_docs.py
}

for suite in "${chosen[@]}"; do
  "$suite"
done

# "test result: ok. 12 passed; 0 failed; 1 ignored; ..."
read -r passed broken ignored < <(awk '/^test result:/ {p += $4; f += $6; i += $8} END {print p + 0, f + 0, i + 0}' "$log")
echo
grep '^NOT RUN' "$log" || true
echo "suites: ${chosen[*]}; $((SECONDS - started)) s"
for name in "${failed[@]:+${failed[@]}}"; do
  echo "FAILED: $name"
done
[ ${#failed[@]} -eq 0 ] || [ "$broken" -gt 0 ] || broken=${#failed[@]}
echo "$passed passed, $broken failed, $ignored skipped"
[ ${#failed[@]} -eq 0 ]
