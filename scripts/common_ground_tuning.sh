#!/usr/bin/env bash
# The learning rates of the common ground: each value trains on 45,000 images with one seed, and the one with the highest accuracy
# on the other 5,000 after the last epoch is chosen. Test images play no part. Runs go to results/tuning/runs; the tables of their
# validation accuracies are printed and go to results/tuning/report. Arguments go to the training, such as dataset.root=FOLDER.
# After an interruption, run it again to continue.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
tune() {
    python -m spectral_repro.train --multirun seed=0 dataset.validation_images=5000 trainer.threads=1 results_dir=results/tuning/runs "$@"
}
tune experiment=common_ground/batch optimizer.lr=1.5e-3,2.2e-3,3e-3 "$@"
tune experiment=common_ground/sgdg optimizer.lrg=0.05,0.2,0.8,2.4 "$@"
tune experiment=common_ground/adamg optimizer.lrg=0.0125,0.05,0.2,0.8 "$@"
tune experiment=common_ground/muon optimizer.muon_lr=0.0125,0.05,0.2 "$@"
tune experiment=common_ground/muon_operator optimizer.muon_lr=0.0125,0.05,0.2,0.8,3.2 "$@"
tune experiment=common_ground/adamw optimizer.lr=1e-3,3e-3,1e-2,3e-2 "$@"
tune experiment=common_ground/soc optimizer.lr=1.1e-3,4.4e-3,8.8e-3 "$@"
tune experiment=common_ground/long_batch optimizer.lr=1.5e-3,2.2e-3,3e-3 "$@"
python -m spectral_repro.report compare=auto metric=validation_accuracy runs=[results/tuning/runs,results/tuning/report/runs.csv] \
    out=results/tuning/report
