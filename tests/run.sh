#!/usr/bin/env bash
# Everything that must hold before a change lands. Arguments go to pytest: `bash tests/run.sh tests/asr -k delay`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. samples/environment.sh
# Two judges of coded speech are compiled; without a compiler their tests are left out.
judges=$(command -v cc >/dev/null 2>&1 && echo ,judges || true)
ensure_environment "serve,media,train,eval$judges,test"

# The root is the package, so pyright finds `rillvox` through a link that bears the name.
mkdir -p .typing && ln -sfn .. .typing/rillvox
# One thread per process: more fight over the cores and make small models slower.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/pyright
.venv/bin/python -m pytest "$@"
