#!/usr/bin/env bash
# Installs the peers (once) and runs the comparison; arguments go to the program: --help lists them.
# Their install scripts are not run: they would download what the packages for Linux x64 already hold.
set -euo pipefail
cd "$(dirname "$0")/.."
peers=bench/FusedAttention.Comparison
if [ ! -d "$peers/node_modules/onnxruntime-node" ] || [ ! -d "$peers/node_modules/@node-llama-cpp" ]; then
    npm ci --prefix "$peers" --ignore-scripts --no-audit --no-fund
fi
exec dotnet run -c Release --project "$peers" -- "$@"
