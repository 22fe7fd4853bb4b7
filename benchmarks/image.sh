#!/usr/bin/env bash
# nox -s image: builds the image without a Docker engine, starts it, compares its forecasts with the bundle's.
# Needs root, and from Debian: apt-get install buildah debootstrap curl. BASE names an image to use instead of a local one.
set -euo pipefail
python=$1
bin=$(dirname "$python")
work=$(mktemp -d)
export BENTOML_HOME=$work/bentoml BENTOML_DO_NOT_TRACK=True BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs OMP_NUM_THREADS=1
port=3217
base=docker.io/library/python:3.11-slim # what the Bento asks for
trap 'buildah rm tsforecast-image >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

if [ -n "${BASE:-}" ]; then
  buildah tag "$BASE" "$base"
elif ! buildah images -q "$base" >/dev/null 2>&1; then
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$work/root" >/dev/null
  container=$(buildah from scratch)
  buildah copy -q "$container" "$work/root" /
  # The machine's certificates, so that a proxy it trusts is trusted inside too.
  buildah copy -q "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
  buildah config --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$container"
  buildah run "$container" -- ln -sf /usr/bin/python3 /usr/local/bin/python
  buildah run "$container" -- pip install --quiet --break-system-packages uv
  buildah commit -q "$container" "$base"
  buildah rm "$container" >/dev/null
fi

"$python" -m tsforecast.train tracking=none report=none hydra.run.dir="$work/run" >/dev/null
"$python" -m tsforecast.publish "$work/run/bundle" to=bento >/dev/null
"$bin/bentoml" build --version test >/dev/null
"$bin/bentoml" containerize forecaster:test --backend buildah -t tsforecast:test >"$work/build.log" 2>&1 || { tail -40 "$work/build.log"; exit 1; }

size() { buildah inspect --type image --format '{{.OCIv1.RootFS.DiffIDs}}' "$1" >/dev/null && buildah images --json "$1" | "$python" -c 'import json, sys; print(json.load(sys.stdin)[0]["size"])'; }
echo "image $(size tsforecast:test), its base $(size "$base")"

buildah from --name tsforecast-image tsforecast:test >/dev/null
user=$(buildah inspect --format '{{.OCIv1.Config.User}}' tsforecast-image)
[ "$user" = bentoml ] || { echo "the image runs as ${user:-root}"; exit 1; }
setsid buildah run --user "$user" tsforecast-image -- env TSFORECAST_OPEN=1 /home/bentoml/bento/env/docker/entrypoint.sh --host 0.0.0.0 --port $port >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 150); do curl -sf localhost:$port/readyz >/dev/null && break; sleep 0.2; done
curl -sf localhost:$port/readyz >/dev/null || { tail -40 "$work/server.log"; exit 1; }
for file in ui ui/app.js ui/uPlot.min.js; do curl -sf localhost:$port/$file >/dev/null; done

"$python" - "$work/run/bundle" $port <<'COMPARE'
import json, sys, urllib.request
import numpy as np, pandas as pd
import tsforecast as tsf
from tsforecast.serving.engine import Engine

bundle = tsf.load_bundle(sys.argv[1])
asked = Engine(bundle).example
post = urllib.request.Request(f"http://localhost:{sys.argv[2]}/forecast", json.dumps(asked).encode(), {"Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(post))
expected = bundle.forecast(**{name: pd.DataFrame(columns) for name, columns in asked.items()})
point = np.array([answer["forecasts"][0]["point"][name] for name in bundle.channels], np.float32).T
np.testing.assert_array_equal(point, expected.values[0])
assert answer["digest"] == bundle.digest
print("the image's forecast is the bundle's, to the bit")
COMPARE
pkill -TERM -f " serve .*--port $port" # BentoML's own: it stops its worker, which buildah would leave behind
wait "$server" || true
