#!/usr/bin/env bash
# A recording of a human voice, transcribed live through the gateway on this machine's CPU; then a sentence said
# in a voice that comes along, and in one cloned from a recording, both written down again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. samples/environment.sh
ensure_environment serve,eval

port=$(.venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log=$(mktemp)
.venv/bin/rillvox serve --port "$port" >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -f "$log"' EXIT

ready() { .venv/bin/python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1])' "http://127.0.0.1:$port/readyz"; }
say "Waiting for the gateway on port $port ..."
for _ in $(seq 120); do
    if ready 2>/dev/null; then break; fi
    kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.5
done

.venv/bin/python samples/live_captions.py "ws://127.0.0.1:$port/v1/realtime"

say "Saying a sentence, in a voice that comes along and in one cloned from samples/recordings/kathleen.flac ..."
mkdir -p runs/quickstart
.venv/bin/python samples/say.py --out runs/quickstart
.venv/bin/rillvox transcribe runs/quickstart/said.wav
.venv/bin/python samples/clone_voice.py --out runs/quickstart
