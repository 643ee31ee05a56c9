#!/usr/bin/env bash
# Runs the numerical tests with other instructions, numbers of threads and orders of tests, and prints a line for each, with its
# failures. Arguments for pytest replace the folders of numerical tests: scripts/portability.sh tests/layers -k golden
set -euo pipefail
source "$(dirname "$0")/setup.sh"
[ $# -gt 0 ] || set -- tests/{linalg,layers,optim,constraints,models,evaluation}

# checksums of some operations: a setting that changes none of them has no effect on this machine
bits() {
    python - <<'PYTHON'
import hashlib
import os

import torch

torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))
torch.manual_seed(0)
x, images, kernel = torch.randn(300, 300), torch.randn(8, 16, 32, 32), torch.randn(32, 16, 3, 3)
symmetric = (x @ x.T).double()
results = {
    "sum": x.sum(1),
    "exp": x.exp(),
    "tanh": x.tanh(),
    "softmax": x.softmax(1),
    "length": x.norm(dim=1),
    "batch_norm": torch.nn.functional.batch_norm(images, None, None, training=True),
    "matmul": x @ x,
    "matmul64": x.double() @ x.double(),
    "bfloat16": x.bfloat16() @ x.bfloat16(),
    "conv": torch.nn.functional.conv2d(images, kernel),
    "fft": torch.fft.rfft2(images),
    "eigh": torch.linalg.eigh(symmetric).eigenvectors,
    "svd": torch.linalg.svdvals(x),
    "solve": torch.linalg.solve(x, x.T),
}
for name, value in results.items():
    print(name, hashlib.sha256(value.flatten().view(torch.uint8).numpy().tobytes()).hexdigest())
PYTHON
}

plain=$(bits)
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# row LABEL SETTING... -- OPTION...: runs the tests with environment variables and options of pytest
row() {
    local label=$1 settings=() bits changed seconds=$SECONDS state=passed
    shift
    while [ "$1" != -- ]; do settings+=("$1") && shift; done
    shift
    bits=$(export "${settings[@]}" && bits)
    changed=$({ diff <(echo "$plain") <(echo "$bits") || true; } | sed -n 's/^> \([a-z0-9_]*\) .*/\1/p' | paste -sd ' ')
    env "${settings[@]}" python -m pytest --quiet --numprocesses auto "$@" > "$log" 2>&1 || state=FAILED failed=1
    printf '%-30s %-6s %5d s  %-24s  %s\n' "$label" "$state" $((SECONDS - seconds)) "$(tail -n 1 "$log" | sed 's/ in .*//')" \
        "$([ -n "$changed" ] && echo "other bits in $changed" || echo "no bit changes")"
    [ "$state" = passed ] || grep -E '^(FAILED|ERROR|SUBFAILED)' "$log" || tail -n 20 "$log"
}

grep -m 1 'model name' /proc/cpuinfo
python -c 'import torch; print("torch", torch.__version__, "with", torch.backends.cpu.get_cpu_capability())'
row plain TEST_THREADS=1 -- "$@"
for setting in ATEN_CPU_CAPABILITY={default,avx2} ONEDNN_MAX_CPU_ISA={AVX2,AVX512_CORE} MKL_ENABLE_INSTRUCTIONS=AVX2 \
    MKL_CBWR=COMPATIBLE TEST_THREADS={2,4}; do
    row "$setting" "$setting" -- "$@"
done
for seed in 1 2 3; do
    row "random order $seed" TEST_THREADS=1 -- --random-order --random-order-bucket=global --random-order-seed=$seed "$@"
done
exit $failed
