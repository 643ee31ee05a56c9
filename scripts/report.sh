#!/usr/bin/env bash
# Writes the reports of all papers from the run folders in results/runs and from results/*/runs.csv, then the site of all papers to
# results/site, which is not committed. Arguments go to the report, such as runs=[FOLDER,results/*/runs.csv].
set -euo pipefail
source "$(dirname "$0")/setup.sh"
for paper in wang2019 song2021 senderovich2022 cho2017 daneshmand2021 common_ground; do
    python -m spectral_repro.report paper=$paper "$@" | tail -n 1
done
python -m spectral_repro.bench suite=series | tail -n 1
python -m spectral_repro.report "$@"
