#!/usr/bin/env bash
# Everything that needs a GPU, in MINUTES (default 10) on one GPU, written to the folder OUT (default results/out/gpu):
#
# 1. correctness: layers, gradients, optimisers and constraints compared with the CPU; synchronisation, compilation, torchrun
# 2. bench: times of suite=cuda
# 3. common_ground: the runs of scripts/common_ground.sh, JOBS (default 8) at a time; ROWS and SEEDS choose rows and seeds
# 4. resnet18: the network of wang2019 at full width, with all images, for EPOCHS (default 4) epochs; NORMS chooses the rows
# 5. reports: tables, figures and pages of the finished runs
#
#     bash scripts/gpu.sh dataset.root=FOLDER
#
# Arguments go to the training; device= and scale= go to the bench too. Each part has a share of the time. Run the same command
# again to continue: finished work is skipped. A trial on a CPU, in two minutes:
#
#     ROWS=batch SEEDS=0 NORMS=batch EPOCHS=1 bash scripts/gpu.sh device=cpu scale=smoke dataset=random
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export OUT=${OUT:-results/out/gpu} JOBS=${JOBS:-8} ROBUSTNESS=0
mkdir -p "$OUT"
minutes=${MINUTES:-10} measure=() failed=() unfinished=()
for argument in "$@"; do
    case $argument in
        device=auto) ;;
        device=*) measure+=("$argument") && export TEST_DEVICE=${argument#*=} ;;
        scale=*) measure+=("$argument") ;;
    esac
done

# part NAME PERCENT COMMAND...: runs a command until PERCENT of the time is over; its output goes to OUT/NAME.log
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
        python -m spectral_repro.report paper=$paper runs="[$OUT/runs,$OUT/$paper/runs.csv]" out="$OUT/$paper"
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
if [ ${#unfinished[@]} -gt 0 ]; then echo "Not finished: ${unfinished[*]}. The same command continues from here."; fi
if [ ${#failed[@]} -gt 0 ]; then echo "Failed: ${failed[*]}" && exit 1; fi
