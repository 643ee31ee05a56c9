#!/usr/bin/env bash
# The main job: four norm layers on handwritten digits, two seeds each, then a table, a figure and a page in results/quickstart.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m spectral_repro.train --multirun paper=quickstart
python -m spectral_repro.report paper=quickstart
