#!/usr/bin/env bash
# Prints the interpreters from 3.11 up that are found as python3.X or under pyenv, one of each version; with
# arguments, those of these versions only, and fails if one is missing: interpreters.sh 3.11 3.12
set -euo pipefail

# The first one of a version wins; an interpreter that does not run here (a pyenv shim without a version) is left out.
declare -A found=()
for candidate in python3.{11,12,13,14} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9]*/bin/python3; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    : "${found[$version]:=$candidate}"
done
if [ $# -eq 0 ]; then
    mapfile -t versions < <(printf '%s\n' "${!found[@]}" | sort -V)
    set -- "${versions[@]}"
fi
for version in "$@"; do
    if [ -z "${found[$version]:-}" ]; then
        echo "Python $version is needed: neither python$version nor pyenv has it" >&2
        exit 1
    fi
    echo "${found[$version]}"
done
