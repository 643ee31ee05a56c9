#!/usr/bin/env bash
# The runs of results/common_ground, two at a time with one thread each, then the report. For a single row use
#     python -m spectral_repro.train experiment=common_ground/zca_svd_d16 seed=0 dataset.root=FOLDER
# ROWS, SEEDS and JOBS choose rows, seeds and how many run at a time: ROWS="batch soc" SEEDS="0 1" JOBS=4 bash scripts/common_ground.sh
# Arguments go to the training, such as dataset.root=FOLDER. The first seed of all rows is run before the second. Finished runs
# are skipped, interrupted ones continue. With OUT=FOLDER, runs and report go there instead of results.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
ROWS=${ROWS:-"batch zca_d16 zca_svd_pi_d16 zca_svd_d16 zca_svd_pi_d32 zca_svd_d32 zca_exact_d32 pooling_average pooling_svd
    pooling_isqrt_cov sgdg adamg muon tt_50_penalty clip_1 divide_1 start_kaiming start_svd zca_svd_pi_d4 zca_svd_d4
    zca_taylor_d32 pooling_exact adamw soc start_random"}
for seed in ${SEEDS:-0 1 2 3 4}; do
    printf "experiment=common_ground/%s seed=$seed\n" $ROWS
done | xargs -P "${JOBS:-2}" -L 1 python -m spectral_repro.train trainer.threads=1 ${OUT:+results_dir="$OUT/runs"} "$@"
python -m spectral_repro.report paper=common_ground ${OUT:+runs="[$OUT/runs]" out="$OUT/common_ground"}
