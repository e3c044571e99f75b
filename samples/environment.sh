# Sourced by samples/quickstart.sh and tests/run.sh, from the repository root: makes or reuses .venv.
#
#   RILLVOX_PYTHON=python3.12     make .venv with this interpreter
#   RILLVOX_TORCH=cuda            a CUDA build of torch is welcome
#   RILLVOX_TORCH_INDEX=URL       where to take torch from, if not from pip's own index
#
# Pinning a version of torch does not pin its build: the same version is a CPU build of 0.7 GB for one
# interpreter and a CUDA build of 5 GB for the next. So pip is asked for its plan before anything is installed.

TORCH=$(grep '^torch==' requirements.lock)

say() { printf '%s\n' "$*" >&2; }

pip_in() { local venv=$1; shift; "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

torch_plan() { pip_in "$1" install --dry-run ${RILLVOX_TORCH_INDEX:+--index-url "$RILLVOX_TORCH_INDEX"} "$TORCH" 2>&1; }

# plan_fits VENV: would pip bring a build of torch that suits this machine?
plan_fits() {
    local plan
    plan=$(torch_plan "$1") || { say "  pip finds no $TORCH for it"; return 1; }
    if [ "${RILLVOX_TORCH:-cpu}" != cuda ] && grep -q 'nvidia-' <<<"$plan"; then
        say "  pip would bring the CUDA build of torch, 5 GB"
        return 1
    fi
}

make_venv() {
    local python
    # shellcheck disable=SC2086  # a list of words on purpose
    for python in ${RILLVOX_PYTHON:-python3.11 python3.12 python3.13 python3}; do
        "$python" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            2>/dev/null || continue
        say "Making .venv with $("$python" --version) ..."
        "$python" -m venv --clear .venv
        if plan_fits .venv; then return; fi
        rm -rf .venv
    done
    say "No Python 3.11-3.13 here gets a CPU build of torch from pip. Either"
    say "  - set RILLVOX_TORCH_INDEX to the index of CPU wheels that PyTorch's installation page names, or"
    say "  - set RILLVOX_TORCH=cuda to accept the CUDA build, or"
    say "  - make .venv yourself and install torch 2.9 or newer into it; it is then left as it is."
    exit 1
}

# ensure_environment EXTRAS: .venv with rillvox, these extras and the versions of the lock; quick if it is there.
ensure_environment() {
    local stamp=".venv/rillvox-$1" now
    now=$(cat requirements.lock pyproject.toml | cksum)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then return; fi
    [ -x .venv/bin/python ] || make_venv
    if ! .venv/bin/python -W ignore -c 'import torch' 2>/dev/null; then
        plan_fits .venv || { say "Remove .venv, or install torch into it yourself."; exit 1; }
        say "Installing $TORCH ..."
        pip_in .venv install -q ${RILLVOX_TORCH_INDEX:+--index-url "$RILLVOX_TORCH_INDEX"} "$TORCH"
        .venv/bin/python -W ignore -c 'import os, sys, torch
cuda = torch.version.cuda
if cuda and os.environ.get("RILLVOX_TORCH") != "cuda":
    sys.exit(f"a CUDA {cuda} build of torch was installed; see samples/environment.sh")'
    fi
    say "Installing the rest ..."
    # A torch that somebody chose stays, so its pin is left out; the lock holds for all others.
    grep -v '^torch==' requirements.lock >.venv/constraints.txt
    pip_in .venv install -q -c .venv/constraints.txt -e ".[$1]"
    # resemblyzer asks for a back-port of `typing` to Python 2; in a path before the standard library it breaks
    # whatever imports the real one.
    pip_in .venv uninstall -q -y typing 2>/dev/null || true
    echo "$now" >"$stamp"
}
