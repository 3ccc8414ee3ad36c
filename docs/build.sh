#!/usr/bin/env bash
# Builds the site of docs/ with the reference of the libraries' public members: artifacts/docs/site/index.html. A dead link or another warning is an error. Needs the .NET SDK, and NuGet for docfx.
set -euo pipefail
cd "$(dirname "$0")/.."

for library in FusedAttention FusedAttention.Cuda FusedAttention.Metal FusedAttention.Cli; do # the tool for the assemblies that the libraries name
    dotnet build "src/$library" -c Release -v quiet -nologo
done

dotnet tool restore >/dev/null
rm -rf artifacts/docs
# Warnings of this step are docfx's own about inherited parameters that a member documents itself; the compiler looks at references.
dotnet docfx metadata docfx.json --logLevel Error
dotnet docfx build docfx.json --warningsAsErrors
