#!/usr/bin/env bash
# Unpacks NVIDIA's PTX assembler from Debian's package nvidia-cuda-toolkit into a folder (default ~/.cache/ptxas) and says where it is: nothing is installed, and neither a GPU nor a driver is
# needed. The mirror is the one that this machine's apt has, in its section non-free. Where that is not to be had it says so, and the tests that need the assembler are skipped.
set -uo pipefail
folder=${1:-${HOME:-/tmp}/.cache/ptxas}

skip() { echo "No ptxas: $1"; exit 0; }

if [ ! -x "$folder/bin/ptxas" ]; then
    command -v ptxas >/dev/null && { command -v ptxas; exit 0; }
    [ "$(uname -sm)" = 'Linux x86_64' ] || skip "there is no package for $(uname -sm)."
    for tool in apt-get dpkg-deb; do command -v "$tool" >/dev/null || skip "there is no $tool."; done
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' | grep -m 1 '/debian/*$')
    [ -n "$mirror" ] || skip 'apt has no mirror of Debian.'
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f "$key" ] || skip "there is no $key."
    work=$(mktemp -d) || skip 'there is no room for temporary files.'
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial"
    echo "deb [signed-by=$key] $mirror trixie non-free" >"$work/sources.list"
    apt=(timeout 300 apt-get -q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$work/lists")
    "${apt[@]}" update >/dev/null 2>&1 || skip 'the package lists are not to be had.'
    (cd "$work" && "${apt[@]}" download nvidia-cuda-toolkit >/dev/null 2>&1) || skip 'the package is not to be had.'
    dpkg-deb -x "$work"/nvidia-cuda-toolkit_*.deb "$work/package" 2>/dev/null || skip 'the package does not unpack.'
    mkdir -p "$folder/bin" && cp "$work/package/usr/bin/ptxas" "$folder/bin/" || skip "the package has none, or $folder cannot be written."
fi

"$folder/bin/ptxas" --version | tail -n 1
echo "$folder/bin/ptxas"
