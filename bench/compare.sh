#!/usr/bin/env bash
# Builds with the peers of NuGet and runs the comparison; arguments go to the program: --help lists them.
# ggml comes by npm (bench/README.md says why) and is left out, with a sentence, where there is no npm. Its install scripts are not run: they would download what the package for Linux x64 already holds.
set -euo pipefail
cd "$(dirname "$0")/.."
project=bench/FusedAttention.Comparison
if [ ! -d "$project/node_modules/@node-llama-cpp" ] && command -v npm >/dev/null; then
    npm ci --prefix "$project" --ignore-scripts --no-audit --no-fund
fi
exec dotnet run -c Release --project "$project" -p:Peers=true -- "$@"
