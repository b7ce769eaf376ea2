#!/usr/bin/env bash
# Everything that only a GPU can show, in one command and under eight minutes: what there is, the tests, the main job,
# how long an epoch takes, and the table of speed, beside PyTorch where that is installed, too.
#
#     .venv/bin/python -m pip install -e ".[gpu13,test]"             # or gpu, for CUDA 12
#     PYTHON=.venv/bin/python benchmarks/gpu_check.sh [FOLDER]       # logs go to FOLDER, gpu_check by default
#
# Each step has its time and its log, and the next one runs whatever became of it. Exits with 1 when one failed or had
# no GPU, with 2 when it cannot begin.
set -uo pipefail
case ${1:-} in -*) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
python=$(command -v "${PYTHON:-python3}") || { echo "gpu_check.sh: there is no ${PYTHON:-python3}" >&2; exit 2; }
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
folder=${1:-gpu_check}
{ mkdir -p "$folder" && folder=$(cd "$folder" && pwd) && rm -f "$folder"/*.log && : >"$folder/report.log"; } \
    || { echo "gpu_check.sh: cannot write to $folder" >&2; exit 2; }
cd "$(dirname "$0")/.."
if ! "$python" -c "import pytest, hypothesis"; then
    echo "gpu_check.sh: the tests need the extra test: $python -m pip install -e '.[gpu13,test]'" >&2
    exit 2
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 DEZERO_NEED_GPU=1
export CUPY_CACHE_DIR="${CUPY_CACHE_DIR:-$folder/cupy_cache}"
failed=0

step() {  # step SECONDS NAME COMMAND...
    local seconds=$1 name=$2 status=0 start=$SECONDS
    shift 2
    timeout --kill-after=5 "$seconds" "$@" >"$folder/$name.log" 2>&1 || status=$?
    tail -n 30 "$folder/$name.log"
    if [ $status -ne 0 ]; then failed=1; fi
    echo "== $name: exit status $status after $((SECONDS - start)) s of at most $seconds ==" | tee -a "$folder/$name.log"
}

tests=(tests/test_gpu.py tests/test_capture.py tests/test_cudnn.py tests/test_cublas.py tests/test_gpu_updates.py)
tests+=(tests/test_dataloaders.py tests/test_precision.py tests/test_readme.py tests/test_gpu_kernels.py)
tests+=(tests/test_gpu_operations.py tests/test_recurrent.py tests/test_layers_sequence.py tests/test_layers_norm.py)
tests+=(tests/test_layers_attention.py tests/test_optimizer_groups.py tests/test_optimizer_state.py)
tests+=(tests/test_schedules.py tests/test_models_vision.py)

step 60 report "$python" -m dezero.cuda
if grep -q "^device 0" "$folder/report.log"; then  # without a GPU the rest says nothing
    step 40 epochs "$python" benchmarks/gpu_epoch.py --epochs 3 --out "$folder/epochs.md"
    step 40 main_job "$python" examples/train_cnn.py --gpu --out "$folder/train_cnn.npz"
    step 150 speed "$python" benchmarks/gpu.py --quick --out "$folder/speed.md" --out "$folder/speed.json"
    step 180 tests "$python" -m pytest -p no:cacheprovider -m "gpu and not thorough" -rs --durations=10 "${tests[@]}"
fi
grep -h "^convolutions" "$folder/report.log" | grep "because" && echo "cuDNN was not tried: see above" && failed=1
exit $failed
