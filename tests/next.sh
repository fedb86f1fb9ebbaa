#!/usr/bin/env bash
# weft on a newer lavapipe, which has cooperative matrices of 8 x 8, for scripts that take a program:
#
#   python3 ../shared/fixtures/cases/check.py tests/next.sh gguf-large-swiglu
#   tests/next.sh kernels test --op matmul
#
# WEFT is the program [default: target/release/weft], LAVAPIPE_NEXT what runs one with that driver.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
exec "${LAVAPIPE_NEXT:-$root/../shared/tools/lavapipe-next}" "${WEFT:-$root/target/release/weft}" "$@"
