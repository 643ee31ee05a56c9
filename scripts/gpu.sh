#!/usr/bin/env bash
# Everything that needs a GPU, in MINUTES (default 10) on one GPU, written to the folder OUT (default results/out/gpu):
#
# 1. correctness: layers, gradients, optimisers and constraints compared with the CPU; synchronisation, compilation, torchrun
# 2. bench: times of suite=cuda
# 3. common_ground: the runs of scripts/common_ground.sh, JOBS (default 8) at a time; ROWS and SEEDS choose rows and seeds
# 4. resnet18: the network of wang2019 at full width, with all images, for EPOCHS epochs (default: one epoch, then as many as fit);
#    NORMS chooses the rows
# 5. reports: tables, figures and pages of the finished runs
#
#     bash scripts/gpu.sh dataset.root=FOLDER
#
# Arguments go to the training; device= and scale= go to the bench too. Each part has a share of the time, and what is left of it
# goes to the parts that are not finished. Run the same command again to continue: finished work is skipped. Without internet, give
# NO_SETUP=1 and a python that has all packages. A trial on a CPU, in two minutes:
#
#     ROWS=batch SEEDS=0 NORMS=batch EPOCHS=1 bash scripts/gpu.sh device=cpu scale=smoke dataset=random
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export OUT=${OUT:-results/out/gpu} JOBS=${JOBS:-8} ROBUSTNESS=0
mkdir -p "$OUT"
minutes=${MINUTES:-10} device=cuda measure=() failed=()
[[ $minutes =~ ^[0-9]+$ ]] || { echo "MINUTES=$minutes: must be a whole number" >&2 && exit 1; }
for argument in "$@"; do
    case $argument in
        device=auto) ;;
        device=*) device=${argument#*=} && measure+=("$argument") ;;
        scale=*) measure+=("$argument") ;;
    esac
done
export TEST_DEVICE=$device
python -c "import torch; print('torch', torch.__version__, torch.zeros(1, device='$device').device)" > "$OUT/device.log" 2>&1 ||
    { tail -n 1 "$OUT/device.log" >&2 && echo "No GPU that torch can use. Give device=cpu for a trial without one." >&2 && exit 1; }

# whether a part needs no more time: it has finished, or failed in this call
is_over() {
    [ -e "$OUT/$1.finished" ] || [[ " ${failed[*]} " = *" $1 "* ]]
}

# part NAME PERCENT COMMAND...: runs a command until PERCENT of the time is over, unless it is finished; its output goes to
# OUT/NAME.log. It is stopped with an interrupt, so that tests name their failures and trainings write a checkpoint.
part() {
    local name=$1 left=$((60 * minutes * $2 / 100 - SECONDS)) status=0
    shift 2
    if [ "$left" -lt 5 ] || is_over "$name"; then return; fi
    LEFT=$left timeout --signal=INT --kill-after=10 "$left" "$@" >> "$OUT/$name.log" 2>&1 || status=$?
    case $status in
        0) touch "$OUT/$name.finished" && echo "$name: finished after $SECONDS s" ;;
        124 | 137) echo "$name: its time is over after $SECONDS s" ;;
        *) failed+=("$name") && echo "$name: failed after $SECONDS s, see $OUT/$name.log" && tail -n 5 "$OUT/$name.log" ;;
    esac
}

# tests NAME PERCENT PATTERN: the tests of a device whose names match
tests() {
    part "$1" "$2" python -m pytest -p no:cacheprovider -m slow -k "$3" tests/devices/test_gpu.py
}

# train_norms EPOCHS ARGUMENT...: a training of every norm
train_norms() {
    printf 'experiment=wang2019/resnet18_%s\n' ${NORMS:-batch zca_svd_d16 zca_d16 zca_svd_d64 zca_d64} |
        xargs -P "$JOBS" -L 1 python -m spectral_repro.train precision=auto trainer.threads=1 results_dir="$OUT/runs" \
            trainer.epochs="$1" "${@:2}"
}

# one epoch, then as many as fit into the time that is left of this part, less a tenth
resnet18() {
    if [ -z "${EPOCHS:-}" ] && [ ! -e "$OUT/epochs" ]; then
        train_norms 1 "$@"
        local spent  # seconds of the slowest, in all attempts
        spent=$(python -c 'import json, sys; print(round(max(json.load(open(each))["wall_time_s"] for each in sys.argv[1:])))' \
            "$OUT"/runs/wang2019_resnet18_*/summary.json)
        echo $((9 * (LEFT - SECONDS) / (10 * spent + 1))) > "$OUT/epochs"
    fi
    local epochs=${EPOCHS:-$(cat "$OUT/epochs")}
    [ "$epochs" -lt 1 ] || train_norms "$epochs" "$@"
}

reports() {
    for paper in common_ground wang2019; do
        python -m spectral_repro.report paper=$paper runs="[$OUT/runs,$OUT/$paper/runs.csv]" out="$OUT/$paper"
    done
}
export -f train_norms resnet18 reports

arguments=("$@") parts=(layers optimisers training compilation bench common_ground resnet18)
# run_parts PERCENT...: each until its percentage of the time is over
run_parts() {
    tests layers "$1" 'test_layers or test_functions'
    tests optimisers "$2" 'optimisers or constraints or found'
    tests training "$3" 'training_step or process or stopped'
    tests compilation "$4" 'compiled or graphs'
    part bench "$5" python -m spectral_repro.bench suite=cuda out="$OUT/bench" "${measure[@]}"
    part common_ground "$6" bash scripts/common_ground.sh "${arguments[@]}"
    part resnet18 "$7" bash -ec 'resnet18 "$@"' resnet18 "${arguments[@]}"
}
run_parts 10 15 20 25 40 70 88
run_parts 88 88 88 88 88 88 88
rm -f "$OUT/reports.finished"
if compgen -G "$OUT/runs/*/summary.json" > /dev/null; then part reports 98 bash -ec reports; fi
echo "Logs, runs, tables and pages: $OUT"
unfinished=()
for name in "${parts[@]}"; do
    is_over "$name" || unfinished+=("$name")
done
if [ ${#unfinished[@]} -gt 0 ]; then echo "Not finished: ${unfinished[*]}. The same command continues from here."; fi
if [ ${#failed[@]} -gt 0 ]; then echo "Failed: ${failed[*]}" && exit 1; fi
