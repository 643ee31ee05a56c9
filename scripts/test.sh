#!/usr/bin/env bash
# The tests, one process per core. Arguments go to pytest: scripts/test.sh -m slow
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m pytest --numprocesses auto "$@"
