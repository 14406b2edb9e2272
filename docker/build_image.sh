#!/usr/bin/env bash
# Builds the container image with whichever of docker, podman and buildah is here. `make docker` and `make docker-cuda` run this.
#
#   docker/build_image.sh cpu|cuda [WORD ...]    the words go to the tool: --build-arg BASE=NAME, --network host, --volume A:B:ro
#
# Settings, by environment:
#   CONTAINER_TOOL=podman   this tool and no other        IMAGE=NAME   default: hkd-caffe, hkd-caffe:cuda
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "build_image.sh: error: $*" >&2; exit 1; }

case ${1:-} in
  cpu) image=hkd-caffe words=() ;;
  cuda) image=hkd-caffe:cuda words=(--build-arg CAFFE_CUDA=1) ;;
  *) echo "usage: build_image.sh cpu|cuda [WORD ...]" >&2; exit 2 ;;
esac
shift

tool=
silent=
for candidate in ${CONTAINER_TOOL:-docker podman buildah}; do
  command -v "$candidate" >/dev/null || continue
  # A client may be here without the daemon that does the work.
  said=$("$candidate" info 2>&1) && tool=$candidate && break
  silent+="$candidate is here, but does not answer ($(tail -n 1 <<<"$said")): start it; "
done
[ -n "$tool" ] || fail "${silent:-no ${CONTAINER_TOOL:-docker, podman or buildah} here: }install one, for example apt-get install podman"

[ "$tool" != buildah ] || words+=(--layers)
# Where the way out leads through a proxy, it does so for the build too.
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  [ -z "${!name:-}" ] || words+=(--build-arg "$name=${!name}")
done
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
set -x
exec "$tool" build --file docker/Dockerfile --tag "${IMAGE:-$image}" --build-arg "COMMIT=$commit" "${words[@]}" "$@" .
