#!/usr/bin/env bash
# Makes artifacts/gpu: all that a Linux x64 machine with an NVIDIA GPU needs to test and time the CUDA backend, without .NET, a CUDA toolkit or a network.
#   eng/gpu-tests.sh [--sample] [--no-aot]
#   --sample   with samples/TextGeneration and its model
#   --no-aot   the tool as managed code beside the tests, instead of a native program
# Take the folder to that machine and run artifacts/gpu/run.sh there; it says what it can do (--help).
set -euo pipefail
cd "$(dirname "$0")/.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_CLI_UI_LANGUAGE=en DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1
export DOTNET_CLI_USE_MSBUILD_SERVER=0 MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false

sample=0 aot=1
for option in "$@"; do
    case $option in
        --sample) sample=1 ;;
        --no-aot) aot=0 ;;
        *) echo "Unknown: $option" >&2; sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done

# Builds of their own: a runtime identifier changes what a restore gives, and the builds of everyday stay as they are. The checks of the code are those builds' matter.
build=$PWD/artifacts/gpu-build stage=$PWD/artifacts/gpu-build/stage target=$PWD/artifacts/gpu
publish() {
    local project=$1 folder=$2
    shift 2
    echo "== $project"
    dotnet publish "$project" -c Release -r linux-x64 --self-contained -o "$folder" -v quiet -m:1 \
        -p:ArtifactsPath="$build" -p:RunAnalyzers=false -p:EnforceCodeStyleInBuild=false -p:TreatWarningsAsErrors=false -p:GenerateDocumentationFile=false \
        -p:DebugType=embedded -p:PackAsTool=false -p:NuGetAudit=false "$@"
}

rm -rf "$stage" "$target/run.sh" "$target/gpu.tar.xz"
mkdir -p "$stage/repo" "$stage/shared/data" "$target"

# All managed programs share a folder, and so one runtime. Tests look for types by name: the runtime's own assemblies are trimmed, none of theirs.
# (A trimmed runtime is one program's, so with others beside the tests it stays whole.)
if [ "$sample" = 1 ] || [ "$aot" = 0 ]; then
    publish tests/FusedAttention.Cuda.Tests "$stage/repo/bin"
    if [ "$sample" = 1 ]; then publish samples/TextGeneration "$stage/repo/bin"; fi
else
    publish tests/FusedAttention.Cuda.Tests "$stage/repo/bin" -p:PublishTrimmed=true -p:TrimMode=partial -p:SuppressTrimAnalysisWarnings=true -p:EventSourceSupport=true
fi

if [ "$aot" = 1 ]; then
    # The compiler wants a C compiler to link with; whichever there is.
    linker=$(command -v clang || command -v clang-16 || command -v gcc || true)
    if [ -z "$linker" ]; then echo 'No clang or gcc to link with: --no-aot makes the tool as managed code.' >&2; exit 1; fi
    publish src/FusedAttention.Cli "$stage/repo/tool" -p:PublishAot=true -p:CppCompilerAndLinker="$(basename "$linker")" -p:IlcInstructionSet=x86-64-v3 -p:StripSymbols=true
    rm -f "$stage"/repo/tool/*.dbg "$stage"/repo/tool/*.xml
else
    publish src/FusedAttention.Cli "$stage/repo/bin"
fi

# What tests look for above them: the solution's file says where the repository is, and the data lie in it and beside it.
cp FusedAttention.slnx "$stage/repo/"
git ls-files -z tests/data tests/FusedAttention.Cuda.Tests src/FusedAttention.Cuda | grep -zvE '\.(cs|csproj)$' | xargs -0 -r cp --parents -t "$stage/repo"
if [ -d ../shared/data/reference ]; then cp -r ../shared/data/reference "$stage/shared/data/"; fi
if [ "$sample" = 1 ]; then git ls-files -z samples/TextGeneration/models | xargs -0 cp --parents -t "$stage/repo"; fi
chmod -R u+w "$stage"

# What a program that nobody debugs has no use for; and one copy of what lies in two places.
rm -f "$stage"/repo/bin/{libmscordaccore.so,libmscordbi.so,libcoreclrtraceptprovider.so,createdump,*.xml}
for part in "$stage"/repo/tests/data/reference/*; do
    whole=$stage/shared/data/reference/$(basename "$part")
    if [ -f "$whole" ] && cmp -s "$part" "$whole"; then ln -f "$whole" "$part"; fi
done
git describe --always --dirty > "$stage/commit"

cp eng/gpu-run.sh "$target/run.sh"
chmod +x "$target/run.sh"
echo '== archive'
tar -C "$stage" -cf - . | xz -T0 -6 > "$target/gpu.tar.xz"
du -sh "$stage"/repo/* "$stage"/shared/data/* "$target"/* | sed "s#$PWD/##"
