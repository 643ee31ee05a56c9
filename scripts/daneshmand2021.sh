#!/usr/bin/env bash
# Results of daneshmand2021 with four seeds: random networks (Figures 1, 2, 5, 6) as published, trainings (Figures 4, 7) at a
# reduced scale, then the report in results/daneshmand2021. The narrow networks of Figure 7 learn slowly: ten times the published
# learning rate. Arguments go to the training, such as dataset.root=FOLDER. Interrupted, it goes on where it was.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
run() { python -m spectral_repro.train --multirun paper=daneshmand2021 "$@"; }
run "experiment=glob(daneshmand2021/*,exclude=[*figure4*,*figure7*])" "$@"
run "experiment=glob(daneshmand2021/figure4*)" scale=cpu precision=float32 model.width=256 trainer.epochs=30 "$@"
run "experiment=glob(daneshmand2021/figure7*)" scale=cpu precision=float32 dataset.train_images=6000 trainer.epochs=20 optimizer.lr=0.01 "$@"
python -m spectral_repro.report paper=daneshmand2021
