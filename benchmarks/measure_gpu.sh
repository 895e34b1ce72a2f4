#!/usr/bin/env bash
# Measures the engine on this machine's GPU in one call of under ten minutes: first the tests that need
# a GPU, then measure_gpu.py, which writes every result as soon as it is known. Without a GPU it
# rehearses the same on the CPU with tiny weights, whose figures mean nothing.
#
#   bash benchmarks/measure_gpu.sh [SECONDS]     at most so long altogether (540)
#
#   OUT=FOLDER       for machine.txt, pytest.txt, results.jsonl, table.md and traces (build/measure_gpu);
#                    relative paths start at the repository
#   PYTHON=PROGRAM   with the worker's packages (.venv/bin/python if it is there, else python3)
#   DEVICE, SIZE     cuda or cpu; a size of random_model.py
#   WHEELS=FOLDER    install its wheels for this call alone: for a machine without a package index, whose
#                    Python has its own torch 2.11 or newer. Fetch them elsewhere, for that Python:
#                      pip download --no-deps --only-binary=:all: --python-version 3.12 \
#                        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -d FOLDER NAME==VERSION ...
#                    with the versions of constraints.txt; the script names every package that is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${1:-540}
out=${OUT:-build/measure_gpu}
python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    [ -x .venv/bin/python ] && python=.venv/bin/python
fi
left() { echo $((limit - SECONDS)); }
mkdir -p "$out"

site=
if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
fi
export PYTHONPATH="$site:$PWD:$PWD/tests:$PWD/benchmarks" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

missing=$("$python" - <<'PYTHON'
from importlib.util import find_spec

names = ["cachetools", "httpx", "pydantic", "pydantic_settings", "pytest", "pytest_asyncio", "safetensors"]
names += ["soundfile", "soxr", "torch", "transformers"]
print(" ".join(name for name in names if find_spec(name) is None))
PYTHON
)
if [ -n "$missing" ]; then
    echo "measure_gpu: $python lacks $missing." >&2
    echo "Install the worker and its tests (python3 -m venv .venv, then" >&2
    echo ".venv/bin/pip install -c constraints.txt -e '.[dev,worker]'), or set PYTHON or WHEELS." >&2
    exit 2
fi
device=${DEVICE:-$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')}
echo "measuring on $device into $out, within $limit s"
[ "$device" = cpu ] && echo "no GPU: this is a rehearsal, its figures mean nothing"

{
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv || true
    lscpu | grep -E "^(Model name|CPU\(s\))" || true
    free -g | head -2 || true
} >"$out/machine.txt" 2>&1

# Without conftest.py, which needs Prefect; torch 2.11 warns where later ones do not.
share=$(($(left) / 3))
status=0
timeout "$share" "$python" -m pytest -m gpu tests/test_engine_gpu.py --noconftest -p no:cacheprovider \
    -o addopts= -W default -q >"$out/pytest.txt" 2>&1 || status=$?
tail -n 3 "$out/pytest.txt"
echo "tests that need a GPU: exit status $status"

measured=0
timeout --kill-after 10 "$(left)" "$python" benchmarks/measure_gpu.py --out "$out" --device "$device" \
    ${SIZE:+--size "$SIZE"} --seconds $(($(left) - 20)) >"$out/log.txt" 2>&1 || measured=$?
[ -f "$out/table.md" ] && cat "$out/table.md"
if [ "$measured" -ne 0 ]; then
    echo "measure_gpu: exit status $measured; the end of $out/log.txt:" >&2
    tail -n 5 "$out/log.txt" >&2
fi
echo "done after $SECONDS s"
[ "$status" -eq 0 ] && [ "$measured" -eq 0 ]
