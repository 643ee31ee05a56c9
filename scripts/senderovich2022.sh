#!/usr/bin/env bash
# The committed results of senderovich2022 for 20 epochs with three seeds: a narrow WRN, plain, with TT, clipping and division, and
# a narrow LipConvnet-5 with SOC and SOTT, evaluated by all five metrics, AutoAttack on few images; a GPU saves hours;
# then the report in results/senderovich2022. For all rows use -m paper=senderovich2022. Arguments go to the training, such as
# dataset.root=FOLDER. After an interruption, run it again to continue.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m spectral_repro.train --multirun paper=senderovich2022 scale=cpu "experiment=glob(senderovich2022/narrow_*)" seed=0,1,2 \
    precision=float32 dataset.train_images=16000 dataset.test_images=1000 trainer.epochs=20 "$@"
measure() { python -m spectral_repro.evaluate corruptions.source=generated "$@"; }
measure "runs=results/runs/senderovich2022_narrow_wrn16*" metrics=[accuracy,calibration,corruptions,autoattack] autoattack.images=50
measure "runs=results/runs/senderovich2022_narrow_lipconvnet5*" metrics=[accuracy,calibration,corruptions,autoattack,certificates] \
    autoattack.images=10
python -m spectral_repro.report paper=senderovich2022
