#!/usr/bin/env bash
# Makes artifacts/x86: all that a Linux x64 machine needs to test and time machine code (AMX, AVX-512, F16C), without .NET or a network.
#   eng/x86-tests.sh
# Take the folder to that machine and run artifacts/x86/run.sh there; it says what it can do (--help).
set -euo pipefail
cd "$(dirname "$0")/.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_CLI_UI_LANGUAGE=en DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1
export DOTNET_CLI_USE_MSBUILD_SERVER=0 MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false
if [ $# -gt 0 ]; then sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; fi

# A build of its own, as for the GPU's folder. Tests look for types by name: the runtime's own assemblies are trimmed, none of theirs.
build=$PWD/artifacts/x86-build stage=$PWD/artifacts/x86-build/stage target=$PWD/artifacts/x86
rm -rf "$stage" "$target"
mkdir -p "$stage/repo" "$target"
common=(-c Release -r linux-x64 --self-contained -v quiet -m:1 -p:ArtifactsPath="$build" -p:RunAnalyzers=false -p:EnforceCodeStyleInBuild=false -p:TreatWarningsAsErrors=false
    -p:GenerateDocumentationFile=false -p:DebugType=embedded -p:NuGetAudit=false)
for project in FusedAttention.Tests FusedAttention.Checking.Tests; do
    dotnet publish "tests/$project" "${common[@]}" -o "$stage/repo/$project" -p:PublishTrimmed=true -p:TrimMode=partial -p:SuppressTrimAnalysisWarnings=true -p:EventSourceSupport=true
    rm -f "$stage/repo/$project"/{libmscordaccore.so,libmscordbi.so,libcoreclrtraceptprovider.so,createdump,*.xml}
done
mkdir -p "$stage/repo/tests/data"
cp -r tests/data/reference "$stage/repo/tests/data/"
cp FusedAttention.slnx "$stage/repo/"

# The library compiled ahead for the process that has PyTorch; the compiler wants a C compiler to link with, whichever there is.
linker=$(command -v clang || command -v clang-16 || command -v gcc || true)
if [ -z "$linker" ]; then echo 'No clang or gcc to link with.' >&2; exit 1; fi
dotnet publish bench/FusedAttention.Cpu.Comparison "${common[@]}" -o "$stage/native" -p:PublishAot=true -p:CppCompilerAndLinker="$(basename "$linker")" -p:IlcInstructionSet=x86-64-v4 -p:StripSymbols=true
mv "$stage/native/FusedAttention.Cpu.Comparison.so" "$target/"
rm -rf "$stage/native"
git describe --always --dirty > "$stage/commit"
cp eng/x86-run.sh "$target/run.sh"
cp bench/cpu/prefill.py "$target/"
chmod +x "$target/run.sh"
tar -C "$stage" -cf - . | xz -T0 -6 > "$target/x86.tar.xz"
du -sh "$target"/* | sed "s#$PWD/##"
