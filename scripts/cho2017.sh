#!/usr/bin/env bash
# The committed results of cho2017: whether weights stay on the sphere; SGD, SGD-G and Adam-G on narrow networks at scale=cpu, three
# seeds each, and VGG on CIFAR-100 once more with all images that there are; then the report in results/cho2017. All rows:
# -m paper=cho2017. Arguments go to the training, such as dataset.root=FOLDER. Interrupted, it goes on where it was.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m spectral_repro.bench suite=sphere out=results/cho2017/sphere
rows=cho2017/cifar*_vgg13_*,cho2017/cifar*_wrn28_10_*
python -m spectral_repro.train --multirun paper=cho2017 scale=cpu seed=0,1,2 "experiment=glob([$rows])" "$@"
python -m spectral_repro.train --multirun paper=cho2017 scale=cpu seed=0,1,2 "experiment=glob(cho2017/cifar100_vgg13_*)" \
    dataset.train_images=null trainer.epochs=8 "$@"
python -m spectral_repro.report paper=cho2017
