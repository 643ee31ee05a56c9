#!/usr/bin/env bash
# The committed results of cho2017: the drift from the sphere; SGD, SGD-G and Adam-G with a narrow VGG-13 on CIFAR-100 with three
# seeds; then the report in results/cho2017. For all rows use -m paper=cho2017. Arguments go to the training, such as
# dataset.root=FOLDER. After an interruption, run it again to continue.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m spectral_repro.bench suite=sphere out=results/cho2017/sphere
python -m spectral_repro.train --multirun paper=cho2017 scale=cpu seed=0,1,2 "experiment=glob(cho2017/cifar100_vgg13_*)" \
    dataset.train_images=null trainer.epochs=8 "$@"
python -m spectral_repro.report paper=cho2017
