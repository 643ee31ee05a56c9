#!/usr/bin/env bash
# The picture and the table of the README, which are committed in results/quickstart: runs the quickstart and makes its report
# there. Copy results/quickstart/digits.md into the README afterwards, a test compares the two. Arguments go to the training.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
bash scripts/quickstart.sh "$@"
python -m spectral_repro.report paper=quickstart runs=results/out/quickstart/runs out=results/quickstart
