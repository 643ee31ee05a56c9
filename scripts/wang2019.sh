#!/usr/bin/env bash
# The committed results of wang2019 at scale=cpu, with seven epochs and three seeds: the three gradients of its Table 1 at every
# group size, PCA by preserved information, and two more rows with the plain gradient; then the report in results/wang2019. For
# all rows use -m paper=wang2019. Arguments go to the training, such as dataset.root=FOLDER. After an interruption, run it again.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
rows=$(printf 'wang2019/resnet18_%s,' batch zca_svd_d\* zca_autograd_d{16,32,64} zca_power_d\* zca_d\* zca_svd_cut_d64 pca_info\* pca_svd_info99)
python -m spectral_repro.train --multirun paper=wang2019 scale=cpu trainer.epochs=7 "experiment=glob([${rows%,}],exclude=*_k*)" "$@"
python -m spectral_repro.report paper=wang2019
