#!/usr/bin/env bash
# Runs the quickstart and replaces its report in results/quickstart, which is committed. Arguments go to the training.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
bash scripts/quickstart.sh "$@"
rm -f results/quickstart/runs.csv  # a report does not replace runs that it does not read
python -m spectral_repro.report paper=quickstart runs=results/out/quickstart/runs out=results/quickstart
