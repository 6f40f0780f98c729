#!/usr/bin/env bash
# Builds what a release consists of into dist/ (or the directory given): static
# binaries of both commands for each platform, a bill of materials for each, and
# SHA256SUMS. The same commit and the same Go give the same bytes, on any machine
# and in any directory. PLATFORMS, VERSION, COMMIT and BUILD choose others.
set -euo pipefail
source "$(dirname "$0")/env.sh"

out=${1:-dist}
read -ra platforms <<<"${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}"
version=${VERSION:-$(git describe --tags --always --dirty)}
commit=${COMMIT:-$(git describe --always --dirty --abbrev=40 --exclude='*')}
build=${BUILD:-$(git log -1 --format=%cI)}

if [[ -e $out && -n $(ls -A "$out") ]]; then
	echo "$out is not empty" >&2
	exit 1
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)

# What a machine's settings could put into the binaries. The version is linked in.
unset GOAMD64 GOARM64 GOEXPERIMENT GOFIPS140
export CGO_ENABLED=0 GOFLAGS=-tags=http2legacy GOWORK=off
package=$(go list -m)/internal/buildinfo
ldflags="-s -w -X $package.version=$version -X $package.commit=$commit -X $package.build=$build"

go version
bom=$(mktemp -d)
trap 'rm -rf "$bom"' EXIT
go build -o "$bom/sbom" ./ci/sbom
for platform in "${platforms[@]}"; do
	os=${platform%/*} arch=${platform#*/} suffix=
	if [[ $os == windows ]]; then suffix=.exe; fi
	for command in websocktunnel wst-client; do
		name=${command}_${version}_${os}_$arch
		GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=false -mod=readonly -ldflags "$ldflags" -o "$out/$name$suffix" "./cmd/$command"
		"$bom/sbom" -time "$build" "$out/$name$suffix" >"$out/$name.cdx.json"
	done
done
cp LICENSE "$out/"
sums=(sha256sum)
command -v sha256sum >/dev/null || sums=(shasum -a 256) # macOS
(cd "$out" && LC_ALL=C && "${sums[@]}" ./* | sed 's|\./||' >"$bom/sums")
cp "$bom/sums" "$out/SHA256SUMS"
echo "$out: version $version"
cat "$out/SHA256SUMS"
