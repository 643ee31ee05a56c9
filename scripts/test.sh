#!/usr/bin/env bash
# The tests. Arguments go to pytest: scripts/test.sh -m slow
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m pytest "$@"
