#!/usr/bin/env bash
# Makes artifacts/gpu-compare: the CUDA backend as a native library and the program that times it beside FlashAttention 2, cuDNN and FlexAttention in one process. The machine with the GPU needs
# PyTorch and an NVIDIA driver, and neither .NET nor a network.
#   eng/gpu-compare.sh
# Take the folder there and run artifacts/gpu-compare/run.sh; it says what it can do (--help).
set -euo pipefail
cd "$(dirname "$0")/.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_CLI_UI_LANGUAGE=en DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1
export DOTNET_CLI_USE_MSBUILD_SERVER=0 MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false
if [ $# -gt 0 ]; then sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; fi

# The compiler wants a C compiler to link with; whichever there is.
linker=$(command -v clang || command -v clang-16 || command -v gcc || true)
if [ -z "$linker" ]; then echo 'No clang or gcc to link with.' >&2; exit 1; fi

# A build of its own: a runtime identifier changes what a restore gives, and the builds of everyday stay as they are. The checks of the code are those builds' matter.
build=$PWD/artifacts/gpu-build stage=$PWD/artifacts/gpu-build/compare target=$PWD/artifacts/gpu-compare
rm -rf "$stage" "$target"
mkdir -p "$target"
dotnet publish bench/FusedAttention.Cuda.Comparison -c Release -r linux-x64 --self-contained -o "$stage" -v quiet -m:1 \
    -p:ArtifactsPath="$build" -p:RunAnalyzers=false -p:EnforceCodeStyleInBuild=false -p:TreatWarningsAsErrors=false -p:GenerateDocumentationFile=false \
    -p:DebugType=embedded -p:NuGetAudit=false -p:PublishAot=true -p:CppCompilerAndLinker="$(basename "$linker")" -p:IlcInstructionSet=x86-64-v3 -p:StripSymbols=true
cp "$stage/FusedAttention.Cuda.Comparison.so" "$target/"
cp bench/gpu/*.py "$target/"
cp eng/gpu-compare-run.sh "$target/run.sh"
chmod +x "$target/run.sh"
git describe --always --dirty > "$target/commit"
du -sh "$target"/* | sed "s#$PWD/##"
