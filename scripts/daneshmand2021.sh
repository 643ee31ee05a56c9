#!/usr/bin/env bash
# Results of daneshmand2021 with four seeds: random networks (Figures 1, 2, 5, 6) and the initial networks of Figures 3 and 4 as
# published, the trainings of Figures 3 and 4 at a reduced scale, and five of the twenty epochs of Figure 7, which need a GPU (a
# step takes 6 or 22 ms on an H100, 260 or 760 on two cores); then the report in results/daneshmand2021. Arguments go to the
# training, such as dataset.root=FOLDER. After an interruption, run it again to continue.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
run() { python -m spectral_repro.train --multirun paper=daneshmand2021 "$@"; }
run "experiment=glob(daneshmand2021/*,exclude=[*figure3b*,*figure4*,*figure7*])" "$@"
run "experiment=glob([daneshmand2021/figure3b*,daneshmand2021/figure4*])" scale=cpu precision=float32 model.width=256 \
    dataset.train_images=10000 dataset.batch_size=100 trainer.epochs=15 "$@"
run "experiment=glob(daneshmand2021/figure7*)" trainer.epochs=5 "$@"
python -m spectral_repro.report paper=daneshmand2021
