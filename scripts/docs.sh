#!/usr/bin/env bash
# The documentation site, in docs/_build/html; a warning or a broken link is an error. Arguments go to sphinx-build.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m sphinx --fail-on-warning --keep-going --jobs auto "$@" --conf-dir docs . docs/_build/html
echo "docs/_build/html/docs/index.html"
