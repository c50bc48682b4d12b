#!/bin/sh
# Makes a virtual environment with exactly the packages of hashed requirement files:
#
#     requirements/sync.sh .venv requirements/runtime.txt requirements/dev.txt
#
# It searches for a Python >= 3.12, or uses PYTHON=/path/to/python. It needs uv: if that is not installed, pip installs it
# into .uv. With --uv instead of an environment it only prints the path of uv.
set -eu

export UV_COMPILE_BYTECODE=1          # otherwise each process of the local host compiles at its first import
export UV_SYSTEM_CERTS=1              # the system's store has a company's own certificates
export UV_PYTHON_DOWNLOADS=never      # use an installed Python
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
if [ -n "${SSL_CERT_FILE:-}" ]; then export PIP_CERT="${PIP_CERT:-$SSL_CERT_FILE}"; fi

# Prints the interpreter's real path, if it is new enough. A pyenv shim may stand for a version that is not selected, and
# an activated environment may be the one that is about to be replaced.
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

# Prints the path of uv, which pip installs first if it is missing. --target works even if the system's Python refuses
# other installs.
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
