#!/usr/bin/env bash
# Makes the virtual environment of this checkout with the given interpreter; Debian keeps venv in a package.
set -euo pipefail
python=$1

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "Python 3.11 or later is needed; name it with: make PYTHON=python3.11" >&2; exit 1; }

"$python" -m venv --clear .venv && exit 0
rm -rf .venv

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing python3-venv"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    exec "$python" -m venv --clear .venv
fi
echo "no virtual environment: on Debian, as root: apt-get install python3-venv" >&2
exit 1
