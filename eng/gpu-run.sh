#!/usr/bin/env bash
# Tests and times the CUDA backend on this machine. Made by eng/gpu-tests.sh; needs an NVIDIA driver and nothing else.
#   run.sh                        tests, then the tool's own checks, then the table of shapes
#   --filter CLASS                tests of these classes only, as '*GpuTests'; may be repeated
#   --gpu-only                    only tests that need a GPU
#   --part K/N                    of the sweeps over random problems, which assemble hundreds of kernels, those whose number leaves K when divided by N
#   --jobs N                      methods of those that run side by side, 8 if not given
#   --sanitize TOOL               memcheck, racecheck, initcheck or synccheck of NVIDIA's compute-sanitizer over the tool's checks
#   --kernels NAME                with --sanitize: only kernels that have this in their name: plain, prefill, decode, merge, append
#   --only TEXT                   checks and rows of the table that have this in their name
#   --form FORM                   only one form of the prefill kernel, mma or wgmma; else, where the card is a Hopper, tests of a GPU and checks run by both
#   --no-tests --no-verify --no-bench
#   --unpack FOLDER               where to; a folder beside this script if not given
#   -- COMMAND                    nothing of that: run a command among the unpacked programs (bin/FusedAttention.Cuda.Tests, tool/fused-attention)
# Reports are copied to $OUT, if that is set. The exit code is 0 if all went well, 1 if something failed, 3 if something asked for is not here.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
filters=() sanitizer='' kernels='' only='' gpu_only=0 jobs=8 tests=1 verify=1 bench=1 folder=$here/unpacked form='' command=()
while [ $# -gt 0 ]; do
    case $1 in
        --filter) filters+=(--filter-class "$2"); shift ;;
        --gpu-only) gpu_only=1 ;;
        --part) export FUSEDATTENTION_GPU_PART=$2; shift ;;
        --jobs) jobs=$2; shift ;;
        --sanitize) sanitizer=$2; shift ;;
        --kernels) kernels=$2; shift ;;
        --only) only=$2; shift ;;
        --form) form=$2; shift ;;
        --no-tests) tests=0 ;;
        --no-verify) verify=0 ;;
        --no-bench) bench=0 ;;
        --unpack) folder=$2; shift ;;
        --) shift; command=("$@"); break ;;
        *) sed -n '2,17s/^# \{0,1\}//p' "$0"; [ "$1" = --help ]; exit $(($? * 2)) ;;
    esac
    shift
done
case $form in '' | mma | wgmma) ;; *) echo "--form $form: not a form that this knows." >&2; exit 2 ;; esac
case $sanitizer in '' | memcheck | racecheck | initcheck | synccheck) ;; *) echo "--sanitize $sanitizer: not a tool that this knows." >&2; exit 2 ;; esac

# Kernels are assembled anew: what is tested is this text, and not what an earlier run left in the driver's cache.
export CUDA_CACHE_DISABLE=1 DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 TERM=${TERM:-dumb}
if [ "$here/gpu.tar.xz" -nt "$folder/commit" ]; then
    rm -rf "$folder" && mkdir -p "$folder"
    if command -v xz >/dev/null; then tar -C "$folder" -xJf "$here/gpu.tar.xz"
    else python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$here/gpu.tar.xz" "$folder"
    fi || { echo 'The archive cannot be unpacked: neither xz nor Python is here, or the disk is full.' >&2; exit 3; }
    touch "$folder/commit"
fi
cd "$folder/repo"
tool=tool/fused-attention
[ -x $tool ] || tool=bin/fused-attention
if [ ${#command[@]} -gt 0 ]; then exec "${command[@]}"; fi

status=0
reports=${OUT:-$folder/reports}
mkdir -p "$reports"
step() {
    local name=$1
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$reports/$name.txt"
    local code=${PIPESTATUS[0]}
    if [ "$code" -ne 0 ]; then
        echo "== $name: exit code $code"
        status=1
    fi
}

echo "== commit $(cat ../commit)"
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit --format=csv,noheader 2>/dev/null
step info $tool info
if [ -n "$form" ]; then export FUSEDATTENTION_CUDA_PREFILL=$form; fi
wgmma=0
if [ -z "$form" ] && [ "$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1)" = 9.0 ]; then wgmma=1; fi

# Tests that need the GPU, a process a method: the driver assembles kernels one after the other within a process, and that is most of the time. What has ended is told at once.
gpu_tests() {
    local name=$1 code=0 parts
    shift
    local tests=("$@" bin/FusedAttention.Cuda.Tests --no-progress --no-ansi --filter-trait needs=gpu)
    parts=$(mktemp -d)
    printf '\n== %s: a process a method of %s\n' "$name" "${tests[*]}"
    "${tests[@]}" ${filters[@]+"${filters[@]}"} --list-tests | sed -nE 's/^ +(FusedAttention[A-Za-z0-9_.]+)(\(.*)?$/\1/p' | sort -u |
        xargs -P "$jobs" -I '{}' sh -c '
            report=$1/$2 method=$2 code=0
            shift 2
            "$@" --filter-method "$method" > "$report" 2>&1 || code=1
            echo "${method#FusedAttention.Cuda.Tests.}:$(grep -E "^  (failed|succeeded|skipped|duration):" "$report" | tr -s " \n" " ")"
            grep -A 4 "^failed " "$report" | head -n 20
            exit $code' - "$parts" '{}' "${tests[@]}" || code=1
    cat "$parts"/* > "$reports/$name.txt"
    rm -rf "$parts"
    if [ $code -ne 0 ]; then
        echo "== $name: failed"
        status=1
    fi
}

# By warpgroups; a wait that does not end traps after some seconds instead of hanging.
by_warpgroups=(env FUSEDATTENTION_CUDA_PREFILL=wgmma FUSEDATTENTION_CUDA_POLLS=50000000)
if [ $tests = 1 ]; then
    if [ $gpu_only = 0 ]; then step tests bin/FusedAttention.Cuda.Tests ${filters[@]+"${filters[@]}"} --filter-not-trait needs=gpu --no-progress --no-ansi; fi
    gpu_tests tests-gpu env
    if [ $wgmma = 1 ]; then gpu_tests tests-gpu-wgmma "${by_warpgroups[@]}"; fi
fi

if [ -n "$sanitizer" ]; then
    found=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer /usr/local/cuda*/compute-sanitizer/compute-sanitizer 2>/dev/null | head -n 1)
    if [ -z "$found" ]; then
        echo '== sanitize: there is no compute-sanitizer here; it comes with the CUDA toolkit.' >&2
        status=3
    else
        step "sanitize-$sanitizer" "$found" --tool "$sanitizer" ${kernels:+--kernel-name "kernel_substring=$kernels"} --error-exitcode 1 --print-limit 20 $tool verify --backend cuda ${only:+--only "$only"}
    fi
elif [ $verify = 1 ]; then
    step verify $tool verify --backend cuda ${only:+--only "$only"}
    if [ $wgmma = 1 ]; then step verify-wgmma "${by_warpgroups[@]}" $tool verify --backend cuda ${only:+--only "$only"}; fi
fi

if [ $bench = 1 ]; then step bench $tool bench --backend cuda ${only:+--only "$only"}; fi
exit $status
