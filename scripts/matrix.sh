#!/usr/bin/env bash
# Runs the unit and contract tests on every interpreter from 3.11 up that is found as python3.X or under pyenv,
# with pinned and with newest dependencies. Environments are kept in .matrix, and made again when pyproject.toml changes.
#
# matrix.sh [--unit-only] [--pinned | --newest] [INTERPRETER ...]
set -euo pipefail
cd "$(dirname "$0")/.."

unit_only= dependencies="pinned newest" interpreters=()
for argument in "$@"; do
    case $argument in
        --unit-only) unit_only=1 ;;
        --pinned | --newest) dependencies=${argument#--} ;;
        *) interpreters+=("$argument") ;;
    esac
done

[ ${#interpreters[@]} -gt 0 ] || mapfile -t interpreters < <(scripts/interpreters.sh)

prepare() { # folder, interpreter, dependencies: an environment with what the tests need
    local extras=dev
    [ -z "$unit_only" ] || extras=unit
    if [ ! -e "$1/.ready-$extras" ] || [ pyproject.toml -nt "$1/.ready-$extras" ]; then
        [ -x "$1/bin/python" ] || "$2" -m venv "$1"
        local pins=()
        [ "$3" = newest ] || pins=(-c constraints.txt)
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "${pins[@]}" -e ".[$extras]"
        touch "$1/.ready-$extras"
    fi
}

failed=()
for interpreter in "${interpreters[@]}"; do
    version=$("$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    for which in $dependencies; do
        name="$version-$which${unit_only:+-unit}"
        echo "== Python $version, $which dependencies"
        prepare ".matrix/$name" "$interpreter" "$which"
        ".matrix/$name/bin/python" -m pytest -q tests/unit || failed+=("$name unit")
        [ -n "$unit_only" ] || ".matrix/$name/bin/python" -m pytest -q -n "${WORKERS:-2}" --dist worksteal tests/contract ||
            failed+=("$name contract")
    done
done

if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "all green: ${#interpreters[@]} interpreters"
