#!/usr/bin/env bash
# Runs the quickstart and writes its report to results/quickstart, which is committed. Arguments go to the training.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
bash scripts/quickstart.sh "$@"
python -m spectral_repro.report paper=quickstart runs=results/out/quickstart/runs out=results/quickstart
