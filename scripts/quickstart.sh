#!/usr/bin/env bash
# Trains four norm layers on handwritten digits with two seeds, then writes a page, a table and a figure to results/out/quickstart,
# which git ignores. Arguments go to the training: scale=smoke takes seconds.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
out=results/out/quickstart
python -m spectral_repro.train --multirun paper=quickstart results_dir=$out/runs "$@"
python -m spectral_repro.report paper=quickstart runs="[$out/runs,$out/runs.csv]" out=$out
for figure in "$out"/*.png; do
    echo "Figure: $figure"
    if [ -e "${figure%.png}.md" ]; then echo "Table:  ${figure%.png}.md"; fi
done
echo "Page:   $out/index.html (open it in a browser)"
