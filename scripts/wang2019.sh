#!/usr/bin/env bash
# The committed results of wang2019: every row of its tables at scale=cpu, three seeds each, then the report in results/wang2019.
# Arguments go to the training, such as dataset.root=FOLDER. Interrupted, it goes on where it was.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m spectral_repro.train --multirun paper=wang2019 scale=cpu "$@"
python -m spectral_repro.report paper=wang2019
