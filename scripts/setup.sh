# Sourced by the other scripts: installs the project into the active virtual environment, or into .venv if none is active.
# With NO_SETUP=1 nothing is installed: python must have everything that pyproject.toml lists.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
if [ -n "${NO_SETUP:-}" ]; then
    export PYTHONPATH=$PWD
    return
fi
if [ -z "${VIRTUAL_ENV:-}" ]; then
    python=
    for candidate in python3 python3.13 python3.12 python3.11; do
        "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && python=$candidate && break
    done
    [ -n "$python" ] || { echo "Python 3.11, 3.12 or 3.13 is needed: install one of them" >&2; exit 1; }
    [ -e .venv/bin/activate ] || "$python" -m venv .venv
    source .venv/bin/activate
fi
stamp="$VIRTUAL_ENV/.spectral_repro_installed"
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    echo "Installing spectral_repro into $VIRTUAL_ENV (torch is large: some minutes)"
    python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
    touch "$stamp"
fi
