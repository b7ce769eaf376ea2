#!/usr/bin/env bash
# Everything that only a GPU can show, in one command and under eight minutes: what there is, the tests, the main job,
# and how long an epoch takes beside PyTorch, where that is installed, too.
#
#     .venv/bin/python -m pip install -e ".[gpu13,test]"             # or gpu, for CUDA 12
#     PYTHON=.venv/bin/python benchmarks/gpu_check.sh [FOLDER]       # logs go to FOLDER, gpu_check by default
#
# Each step has its time and its log, and the next one runs whatever became of it. Exits with 1 when one failed.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-gpu_check}
python=${PYTHON:-python3}
failed=0
mkdir -p "$folder"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 DEZERO_NEED_GPU=1
if ! "$python" -c "import pytest, hypothesis"; then
    echo "gpu_check.sh: the tests need the extra test: $python -m pip install -e '.[gpu13,test]'" >&2
    exit 2
fi

step() {  # step SECONDS NAME COMMAND...
    local seconds=$1 name=$2 status=0 start=$SECONDS
    shift 2
    timeout --kill-after=5 "$seconds" "$@" >"$folder/$name.log" 2>&1 || status=$?
    tail -n 25 "$folder/$name.log"
    if [ $status -ne 0 ]; then failed=1; fi
    echo "== $name: exit status $status after $((SECONDS - start)) s of at most $seconds ==" | tee -a "$folder/$name.log"
}

step 30 report "$python" -m dezero.cuda
if [ $failed -eq 0 ]; then  # without a GPU that computes what the CPU does, the rest says nothing
    step 60 try_first "$python" -m pytest -m gpu tests/test_cudnn.py tests/test_gpu.py -k "not thousand" -x
    step 60 epochs "$python" benchmarks/gpu_epoch.py --out "$folder/epochs.md"
    step 60 main_job "$python" examples/train_cnn.py --gpu --out "$folder/train_cnn.npz"
    step 240 tests "$python" -m pytest -m gpu --durations=15
fi
exit $failed
