#!/usr/bin/env bash
# Times FusedAttention beside FlashAttention 2, cuDNN and FlexAttention on this machine. Made by eng/gpu-compare.sh; needs an NVIDIA driver and PyTorch for CUDA. Arguments are compare.py's: --help lists them.
# Results go to $OUT, if that is set, else beside this script.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# Load times are those of a first call: the driver and Inductor find nothing that an earlier run has left.
export CUDA_CACHE_DISABLE=1
TORCHINDUCTOR_CACHE_DIR=$(mktemp -d)
export TORCHINDUCTOR_CACHE_DIR
trap 'rm -rf "$TORCHINDUCTOR_CACHE_DIR"' EXIT
python3 "$here/compare.py" "$@"
