#!/usr/bin/env bash
# The runs of results/common_ground, JOBS (2) at a time with one thread each; ECE, accuracy under corruptions and AutoAttack of the
# rows of its table of convolutions; then the report. The default rows are those that the claims need, and some of each table:
#
#     bash scripts/common_ground.sh dataset.root=FOLDER
#     ROWS="clip_1 batch" SEEDS="0 1 2" bash scripts/common_ground.sh dataset.root=FOLDER
#
# Arguments go to the training, such as dataset.root=FOLDER. The first seed of all rows is run before the second. Finished runs
# are skipped, interrupted ones continue. With OUT=FOLDER, runs and report go there instead of results. ROBUSTNESS=0 leaves out
# what takes two minutes a run after the training and needs pip install 'spectral-repro[robust]'.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
ROWS=${ROWS:-"batch long_batch zca_svd_d16 zca_svd_d32 zca_svd_pi_d16 zca_svd_pi_d32 zca_svd_pi_d4 first_zca_svd_pi_d16
    first_zca_svd_pi_d32 first_zca_svd_pi_d4 pooling_49_max pooling_49_average pooling_49_svd pooling_49_pade pooling_49_isqrt_cov
    pooling_49_taylor pooling_49_newton_schulz pooling_49_truncated sgdg adamg muon muon_operator clip_1 clip_2 tt_50_penalty
    tt_75_penalty depth_8_xavier depth_8_svd_std depth_8_svd first_pca_info85 first_pca_info99 zca_power_d4 zca_power_d16
    zca_power_d32 zca_d16 zca_exact_d32 pooling_average pooling_svd pooling_pade pooling_isqrt_cov adamw divide_1 start_kaiming
    start_svd start_random start_orthogonal start_xavier long_zca_svd_d64 long_zca_svd_pi_d64 long_first_zca_svd_d64
    long_first_zca_svd_pi_d64 long_muon"}
runs=${OUT:-results}/runs
for seed in ${SEEDS:-0 1 2 3 4}; do
    printf "experiment=common_ground/%s seed=$seed\n" $ROWS
done | xargs -P "${JOBS:-2}" -L 1 python -m spectral_repro.train trainer.threads=1 results_dir="$runs" "$@"
if [ "${ROBUSTNESS:-1}" = 1 ]; then  # an L2 radius of 36/255: under the published 0.5 every image is misclassified
    for row in batch 'tt_*' 'clip_*' divide_1 soc sott; do
        if compgen -G "$runs/common_ground_$row-seed*" > /dev/null; then printf 'runs=%s\0' "$runs/common_ground_$row-seed*"; fi
    done | OMP_NUM_THREADS=1 xargs -0 -r -n 1 -P "${JOBS:-2}" python -m spectral_repro.evaluate \
        metrics=[accuracy,calibration,corruptions,autoattack] autoattack.epsilon=0.1412 autoattack.images=50 corruptions.source=generated \
        corruptions.images=500 corruptions.workers=0
fi
python -m spectral_repro.report paper=common_ground ${OUT:+runs="[$OUT/runs,$OUT/common_ground/runs.csv]" out="$OUT/common_ground"}
