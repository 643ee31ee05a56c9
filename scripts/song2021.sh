#!/usr/bin/env bash
# The committed results of song2021 at scale=cpu with three seeds: every gradient of covariance pooling, and the other pooling
# layers, on CIFAR-10; then the report in results/song2021. The ImageNet and fine-grained rows need a GPU: -m paper=song2021.
# Arguments go to the training, such as dataset.root=FOLDER. After an interruption, run it again to continue.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m spectral_repro.train --multirun paper=song2021 scale=cpu "experiment=glob(song2021/cifar10_*)" "$@"
python -m spectral_repro.report paper=song2021
