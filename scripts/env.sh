#!/usr/bin/env bash
# Makes one of the project's environments, or leaves it alone when it is up to date.
#
#   scripts/env.sh dev              .envs/dev: the project (editable) and its tools
#   scripts/env.sh airflow-3.3.2    .envs/airflow-3.3.2: that Airflow, by itself
#
# Each is made of exactly what requirements/NAME.txt locks, with uv if there is one, else with
# Python's own venv and pip.
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:?which environment? e.g. dev}
lock=requirements/$name.txt
env=.envs/$name
[ -f "$lock" ] || { echo "no $lock: there is no environment '$name'" >&2; exit 2; }

# The newest Python that everything here supports (Airflow 3.1 ends at 3.13, so a newer one comes
# last). A name on PATH proves nothing: it may be a shim for a Python that is not there.
find_python() {
  local candidate
  for candidate in python3.13 python3.12 python3.11 python3.10 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  echo "aiops needs Python 3.10 to 3.14, and none is on PATH: install one and try again" >&2
  exit 1
}

install() { # install WHAT… : exactly that, nothing that it might depend on
  if command -v uv >/dev/null; then
    uv pip install --quiet --compile-bytecode --python "$env/bin/python" --no-deps "$@"
  else
    # uv makes environments without pip, and may be gone since then.
    "$env/bin/python" -c 'import pip' 2>/dev/null || "$env/bin/python" -m ensurepip >/dev/null
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@"
  fi
}

# What an environment was made from is written into it last, so that one whose making was cut off
# is never taken for finished; the folder is part of it because environments cannot be moved.
made_from=$(cksum "$lock"; pwd)
if [ "$(cat "$env/.made-from" 2>/dev/null)" != "$made_from" ] || ! "$env/bin/python" -c '' 2>/dev/null; then
  python=$(find_python)
  echo "making $env ($("$python" -V), $(command -v uv >/dev/null && echo uv || echo pip))" >&2
  rm -rf "$env"
  if command -v uv >/dev/null; then
    uv venv --quiet --no-project --python "$python" "$env"
  elif ! "$python" -m venv "$env"; then
    echo "$python cannot make environments: install uv, or on Debian and Ubuntu python3-venv" >&2
    exit 1
  fi
  install -r "$lock"
  printf '%s\n' "$made_from" >"$env/.made-from"
fi

# The project itself is editable: only what pyproject.toml says of it is installed.
if [ "$name" = dev ]; then
  installed_from=$(cksum pyproject.toml)
  if [ "$(cat "$env/.installed-from" 2>/dev/null)" != "$installed_from" ]; then
    install --no-build-isolation --editable .
    printf '%s\n' "$installed_from" >"$env/.installed-from"
  fi
fi
