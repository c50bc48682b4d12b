#!/bin/sh
# Makes a virtual environment that holds what hashed requirement files list, and nothing else:
#
#     requirements/sync.sh .venv requirements/runtime.txt requirements/dev.txt
#
# It needs a Python >= 3.12, which it looks for (or PYTHON=/path/to/python names it), and uv, which it fetches with pip
# into .uv where it is not installed. With --uv instead of an environment it only prints where uv is.
set -eu

export UV_COMPILE_BYTECODE=1          # otherwise each first import compiles, in each of the local host's processes
export UV_SYSTEM_CERTS=1              # a company's own certificates are in the system's store
export UV_PYTHON_DOWNLOADS=never      # take what is installed
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
if [ -n "${SSL_CERT_FILE:-}" ]; then export PIP_CERT="${PIP_CERT:-$SSL_CERT_FILE}"; fi

# Prints where the interpreter really is, if it is new enough: a pyenv shim exists for versions that aren't selected,
# and an activated environment may be the one that is about to be replaced.
interpreter() {
    "$1" -c 'import sys; sys.version_info >= (3, 12) or sys.exit(1); print(getattr(sys, "_base_executable", sys.executable))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        interpreter "$PYTHON" && return
        echo "PYTHON=$PYTHON is not a Python >= 3.12." >&2
        exit 1
    fi
    for candidate in python3.13 python3.12 python3 python python3.14 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[2-9]*/bin/python3; do
        interpreter "$candidate" && return
    done
    echo "No Python >= 3.12 found (looked for python3.13, python3.12, python3). Install one, or name it: make PYTHON=/path/to/python" >&2
    exit 1
}

# uv, or pip and uv: whatever is there first. --target works where the system's Python refuses other installs.
find_uv() {
    command -v uv && return
    if [ ! -x .uv/bin/uv ]; then
        echo "Fetching uv into .uv" >&2
        rm -rf .uv .uv-pip
        pip=$1
        if ! "$pip" -m pip --version >/dev/null 2>&1; then
            if ! "$1" -m venv .uv-pip >/dev/null 2>&1; then
                rm -rf .uv-pip
                echo "Neither uv nor pip is installed beside $1. Install one of them." >&2
                exit 1
            fi
            pip=.uv-pip/bin/python
        fi
        "$pip" -m pip install --quiet --require-hashes --target .uv -r requirements/uv.txt >&2 || { rm -rf .uv .uv-pip; exit 1; }
        rm -rf .uv-pip
    fi
    echo "$PWD/.uv/bin/uv"
}

python=$(find_python)
uv=$(find_uv "$python")
if [ "$1" = --uv ]; then echo "$uv"; exit; fi

environment=$1
shift
rm -f "$environment/synced"
if ! "$environment/bin/python" -c '' 2>/dev/null; then
    rm -rf "$environment"
    "$uv" venv --quiet --python "$python" "$environment"
fi
echo "Setting up $environment with $("$environment/bin/python" --version), once and after each change of its lock" >&2
"$uv" pip sync --quiet --require-hashes --python "$environment/bin/python" "$@"
if [ "$environment" = .venv ]; then
    "$uv" pip install --quiet --no-deps --python "$environment/bin/python" --editable layers/message_handler
fi
pwd -P >"$environment/synced"
