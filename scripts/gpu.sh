#!/usr/bin/env bash
# What a GPU is needed for, within MINUTES (10) on one of them, into the folder OUT (results/out/gpu), the most important first:
#
# 1. correctness: layers, gradients, optimisers and constraints against the CPU, waits in a training step, compilation, torchrun
# 2. bench: times of suite=cuda
# 3. common_ground: the runs of scripts/common_ground.sh, JOBS (8) side by side, seed after seed; ROWS and SEEDS choose others
# 4. resnet18: that of wang2019 at full width with all images for EPOCHS (4) epochs; NORMS are batch norm, SVD and SVD-PI
# 5. reports: tables, figures and pages of the runs that there are
#
#     bash scripts/gpu.sh dataset.root=FOLDER
#
# Arguments go to the training, device= and scale= to the bench too. Each part has its share of the time. What is finished is left
# as it is and what was interrupted goes on, so the same command again does more. Does it run, on a CPU, in two minutes:
#
#     ROWS=batch SEEDS=0 NORMS=batch EPOCHS=1 bash scripts/gpu.sh device=cpu scale=smoke dataset=random
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export OUT=${OUT:-results/out/gpu} JOBS=${JOBS:-8}
mkdir -p "$OUT"
minutes=${MINUTES:-10} measure=() failed=() unfinished=()
for argument in "$@"; do
    case $argument in
        device=auto) ;;
        device=*) measure+=("$argument") && export TEST_DEVICE=${argument#*=} ;;
        scale=*) measure+=("$argument") ;;
    esac
done

# part NAME PERCENT COMMAND...: a command that may last until so much of the time is over; its output goes to OUT/NAME.log
part() {
    local name=$1 left=$((60 * minutes * $2 / 100 - SECONDS)) status=0
    shift 2
    if [ -e "$OUT/$name.finished" ]; then
        echo "$name: finished before"
        return
    fi
    if [ "$left" -ge 5 ]; then
        timeout --kill-after=15 "$left" "$@" > "$OUT/$name.log" 2>&1 || status=$?
    else
        status=124
    fi
    case $status in
        0) touch "$OUT/$name.finished" && echo "$name: finished after $SECONDS s" ;;
        124 | 137) unfinished+=("$name") && echo "$name: its time is over after $SECONDS s" ;;
        *) failed+=("$name") && echo "$name: failed after $SECONDS s, see $OUT/$name.log" && tail -n 5 "$OUT/$name.log" ;;
    esac
}

resnet18() {
    printf 'experiment=wang2019/resnet18_%s\n' ${NORMS:-batch zca_svd_d16 zca_d16 zca_svd_d64 zca_d64} |
        xargs -P "$JOBS" -L 1 python -m spectral_repro.train precision=auto trainer.threads=1 results_dir="$OUT/runs" \
            trainer.epochs="${EPOCHS:-4}" "$@"
}

reports() {
    for paper in common_ground wang2019; do
        python -m spectral_repro.report paper=$paper runs="[$OUT/runs]" out="$OUT/$paper"
    done
}
export -f resnet18 reports

part correctness 25 python -m pytest -p no:cacheprovider -m slow tests/devices/test_gpu.py
part bench 40 python -m spectral_repro.bench suite=cuda out="$OUT/bench" "${measure[@]}"
part common_ground 75 bash scripts/common_ground.sh "$@"
part resnet18 90 bash -c 'resnet18 "$@"' resnet18 "$@"
rm -f "$OUT/reports.finished"
if compgen -G "$OUT/runs/*/summary.json" > /dev/null; then part reports 100 bash -c reports; fi
echo "Logs, runs, tables and pages: $OUT"
if [ ${#unfinished[@]} -gt 0 ]; then echo "Not finished: ${unfinished[*]}. The same command goes on from here."; fi
if [ ${#failed[@]} -gt 0 ]; then echo "Failed: ${failed[*]}" && exit 1; fi
