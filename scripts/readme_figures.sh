#!/usr/bin/env bash
# The picture of the README, which is committed in results/quickstart: runs the quickstart and makes its report there. Arguments
# go to the training.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
bash scripts/quickstart.sh "$@"
python -m spectral_repro.report paper=quickstart runs=results/out/quickstart/runs out=results/quickstart
