#!/usr/bin/env bash
# Tests and times machine code on this machine. Made by eng/x86-tests.sh; needs nothing, and times PyTorch beside it where Python has it.
#   run.sh                        tests, then times
#   --all                         all tests of the library, and not only those of machine code
#   --seconds N                   how long a shape is timed, 1 if not given
#   --no-tests --no-times --no-torch
#   --unpack FOLDER               where to; a folder beside this script if not given
#   -- COMMAND                    nothing of that: run a command among the unpacked programs (bin/FusedAttention.Tests)
# Reports are copied to $OUT, if that is set. The exit code is 0 if all went well, 1 if something failed.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
all=0 seconds=1 tests=1 times=1 torch=1 folder=$here/unpacked command=()
while [ $# -gt 0 ]; do
    case $1 in
        --all) all=1 ;;
        --seconds) seconds=$2; shift ;;
        --no-tests) tests=0 ;;
        --no-times) times=0 ;;
        --no-torch) torch=0 ;;
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

{ cat "$folder/commit"; grep -m1 'model name' /proc/cpuinfo; nproc; grep -m1 -o -w -E 'amx_bf16' /proc/cpuinfo || echo 'no amx_bf16'; } | tee "$reports/machine.txt"
filter=(--filter-namespace FusedAttention.Tests.Cpu.MachineCode)
[ "$all" = 1 ] && filter=()
if [ "$tests" = 1 ]; then step tests bin/FusedAttention.Tests "${filter[@]}" --no-ansi --no-progress; fi
if [ "$times" = 1 ]; then
    # Twice, with PyTorch in between: tiles have states of their own that come and go, and only neighbours in time compare.
    export FUSEDATTENTION_TIMES=$seconds
    step times1 bin/FusedAttention.Tests --filter-class '*MachineCodeTimes' --no-ansi --no-progress --output Detailed --parallel none
    if [ "$torch" = 1 ] && python3 -c 'import torch' 2>/dev/null; then step torch python3 "$here/x86-torch.py" "$seconds"; fi
    step times2 bin/FusedAttention.Tests --filter-class '*MachineCodeTimes' --no-ansi --no-progress --output Detailed --parallel none
    printf '\n== in short\n'
    grep -h -o -E 'times (prefill|decode|torch).*' "$reports"/times1.txt "$reports"/torch.txt "$reports"/times2.txt 2>/dev/null | sort | tee "$reports/short.txt"
fi

exit $status
