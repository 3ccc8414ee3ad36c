#!/usr/bin/env bash
# Tests and times machine code on this machine. Made by eng/x86-tests.sh; needs nothing, and times PyTorch beside it where Python has it.
#   run.sh                        tests, then times: some four minutes
#   --all                         all tests of the library, and not only those that machine code has a part in
#   --seconds N                   how long a shape is timed, 4 if not given
#   --no-tests --no-times
#   --unpack FOLDER               where to; a folder beside this script if not given
#   -- COMMAND                    nothing of that: run a command among the unpacked programs (FusedAttention.Tests/FusedAttention.Tests)
# Reports are copied to $OUT, if that is set. The exit code is 0 if all went well, 1 if something failed.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
all=0 seconds=4 tests=1 times=1 folder=$here/unpacked command=()
while [ $# -gt 0 ]; do
    case $1 in
        --all) all=1 ;;
        --seconds) seconds=$2; shift ;;
        --no-tests) tests=0 ;;
        --no-times) times=0 ;;
        --unpack) folder=$2; shift ;;
        --) shift; command=("$@"); break ;;
        *) sed -n '2,9s/^# \{0,1\}//p' "$0"; [ "$1" = --help ]; exit $(($? * 2)) ;;
    esac
    shift
done

export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 TERM=${TERM:-dumb}
if [ "$here/x86.tar.xz" -nt "$folder/commit" ]; then
    rm -rf "$folder" && mkdir -p "$folder"
    if command -v xz >/dev/null; then tar -C "$folder" -xJf "$here/x86.tar.xz"
    else python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$here/x86.tar.xz" "$folder"
    fi || { echo 'The archive cannot be unpacked: neither xz nor Python is here, or the disk is full.' >&2; exit 1; }
    touch "$folder/commit"
fi
cd "$folder/repo" || exit 1
if [ ${#command[@]} -gt 0 ]; then exec "${command[@]}"; fi

status=0
reports=${OUT:-$folder/reports}
mkdir -p "$reports"
step() {
    local name=$1
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$reports/$name.txt" || status=1
}

# A test program, of which what was skipped is told in numbers. One that hangs is ended.
suite() {
    local name=$1 program=$2 text=$reports/$1.txt
    shift 2
    printf '\n== %s: %s\n' "$name" "$program"
    timeout 240 "$program/$program" "$@" --no-ansi --no-progress >"$text" 2>&1 || status=1
    grep -v -E '^(skipped|$)|^  ' "$text" | tail -60
    grep -E -A 12 '^failed' "$text" | head -120
    tail -8 "$text"
}

{ cat "$folder/commit"; grep -m1 'model name' /proc/cpuinfo; nproc; grep -m1 -o -w -E 'amx_bf16' /proc/cpuinfo || echo 'no amx_bf16'; } | tee "$reports/machine.txt"
if [ "$tests" = 1 ]; then
    filter=(--filter-class '*.OracleSweepTests' '*.EdgeCaseTests' '*.GuardPageTests' '*.HiddenKeysTests' '*.BitIdentityTests' '*.VisibleBitsTests' '*.RowInvarianceTests' '*.AllocationTests' '*.CancellationTests'
        '*.ConcurrencyTests' '*.FloatRangeTests' '*.MergeTests' '*.PrepareTests' '*.WeightsTests')
    [ "$all" = 1 ] && filter=()
    suite code FusedAttention.Tests --filter-namespace FusedAttention.Tests.Cpu.MachineCode
    suite reference FusedAttention.Checking.Tests --filter-class '*.ReferenceTests'
    suite calls FusedAttention.Tests "${filter[@]}"
fi

if [ "$times" = 1 ]; then
    printf '\n== parts\n'
    FUSEDATTENTION_TIMES=1 FusedAttention.Tests/FusedAttention.Tests --filter-method '*MachineCodeTimes.Parts*' --no-ansi --no-progress --output Detailed --parallel none 2>&1 | grep -E '^ *(parts|failed)' | tee "$reports/parts.txt"
    if python3 -c 'import torch' 2>/dev/null; then
        step prefill timeout 240 python3 "$here/prefill.py" --seconds "$seconds"
    else
        export FUSEDATTENTION_TIMES=$seconds
        step prefill FusedAttention.Tests/FusedAttention.Tests --filter-method '*MachineCodeTimes.Prefill*' --no-ansi --no-progress --output Detailed --parallel none
    fi
fi

exit $status
