#!/usr/bin/env bash
# All committed results again from the runs that there are: folders in results/runs, and what earlier reports kept of runs in
# results/*/runs.csv. A paper without any stays as it is. Then the site of all papers in results/site, which is not committed.
# Arguments go to the report, such as runs=[FOLDER,results/*/runs.csv].
set -euo pipefail
source "$(dirname "$0")/setup.sh"
for paper in wang2019 song2021 senderovich2022 cho2017 daneshmand2021 common_ground; do
    python -m spectral_repro.report paper=$paper "$@" | tail -n 1
done
python -m spectral_repro.bench suite=series | tail -n 1
python -m spectral_repro.report "$@"
