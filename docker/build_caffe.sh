#!/usr/bin/env bash
# Builds BVLC Caffe (pycaffe and the `caffe` binary) into a Python's environment. `make setup` and the Dockerfile both
# run this and nothing else. Does nothing, in well under a second, when the same build is already there.
#
#   docker/build_caffe.sh [PYTHON]        PYTHON defaults to .venv/bin/python; NumPy 1 and protobuf must be in it
#
# Settings, by environment. One that is not given and decides what is built stays as it was in the build that is there:
# `make test` must not turn a GPU build into a CPU build.
#   CAFFE_MARCH=native  -march for the CPU code                      CAFFE_STOCK=1        plain BVLC: no cpu-*.patch, no OpenMP
#   CAFFE_CUDA=1        compile the GPU code too (needs nvcc)        CUDA_HOME=DIR        the toolkit; default: nvcc on PATH
#   CAFFE_CUDNN=0|1     default: auto, where it is found             CUDNN_ROOT=DIR       holds include/ and lib/
#   CAFFE_NCCL=1        several GPUs                                 NCCL_ROOT=DIR        likewise
#   CAFFE_CUDA_ARCHITECTURES="80-real;90"   as CMake writes them     CUDAHOSTCXX=g++-11   the compiler behind nvcc
#   CAFFE_SDIST=FILE    use this archive, download nothing           BUILD_DIR=DIR        default: build/caffe
#   CAFFE_OPT=2         compile with -O2, as distributions do; default 3, as Caffe's own CMake files do      JOBS=N  default: all cores
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
recipe=$root/docker/caffe
python=${1:-$root/.venv/bin/python}
build=${BUILD_DIR:-$root/build/caffe}

# BVLC/caffe at 9b89154, as an archive on PyPI. Its later versions are other forks: never raise this.
package=brocolli-caffe
version=3.0.0
sha256=ad7ba487552f4343df25044a9fa14812a96add48ea2ff993b53bf2dafe8248e2
upstream=BVLC/caffe@9b89154

fail() { echo "build_caffe.sh: error: $*" >&2; exit 1; }

[ -x "$(command -v "$python")" ] || fail "no Python at $python: run 'make setup', or name one: docker/build_caffe.sh PYTHON"
# -I: PYTHONPATH and the folder that this is started in may hold another Caffe.
site=$("$python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
bin=$(dirname "$("$python" -I -c 'import sys; print(sys.executable)')")

# --- the settings -----------------------------------------------------------------------------------------------------
names="CAFFE_MARCH CAFFE_STOCK CAFFE_OPT CAFFE_CUDA CAFFE_CUDNN CAFFE_NCCL CAFFE_CUDA_ARCHITECTURES CUDA_HOME CUDNN_ROOT NCCL_ROOT CUDAHOSTCXX"
for_the_gpu=${CAFFE_CUDNN:-0}${CAFFE_NCCL:-0}
if [ -f "$site/caffe/build_info.json" ]; then
  while IFS='=' read -r name value; do
    case " $names " in *" $name "*) [ -n "${!name+given}" ] || printf -v "$name" %s "${value/#SITE/"$site"}" ;; esac
  done < <("$python" -I -c 'import json, sys; print(*(f"{k}={v}" for k, v in json.load(open(sys.argv[1])).get("settings", {}).items()), sep="\n")' "$site/caffe/build_info.json" 2>/dev/null)
fi
march=${CAFFE_MARCH:-} stock=${CAFFE_STOCK:-0} opt=${CAFFE_OPT:-3} cuda=${CAFFE_CUDA:-0} cudnn=${CAFFE_CUDNN:-auto} nccl=${CAFFE_NCCL:-0}
for flag in CAFFE_CUDA="$cuda" CAFFE_STOCK="$stock" CAFFE_NCCL="$nccl"; do
  case ${flag#*=} in 0|1) ;; *) fail "$flag: must be 0 or 1" ;; esac
done
case $opt in 2|3) ;; *) fail "CAFFE_OPT=$opt: must be 2 or 3" ;; esac
case $cudnn in 0|1|auto) ;; *) fail "CAFFE_CUDNN=$cudnn: must be 0, 1 or auto" ;; esac
if [ "$cuda" = 0 ]; then
  case $for_the_gpu in *1*) fail "CAFFE_CUDNN and CAFFE_NCCL are of the GPU code: set CAFFE_CUDA=1 too, or leave them out" ;; esac
  names="CAFFE_MARCH CAFFE_STOCK CAFFE_OPT CAFFE_CUDA"  # a machine may set CUDA_HOME for other programs
fi
# Those that are not the default, as JSON. What lies in the environment itself (make caffe-cuda) moves with it.
settings=$(for name in $names; do
  case $name=${!name:-} in *=|CAFFE_STOCK=0|CAFFE_OPT=3|CAFFE_CUDA=0|CAFFE_NCCL=0|*=auto) ;; *) value=${!name}; echo "\"$name\": \"${value/#"$site"/SITE}\"" ;; esac
done | paste -sd, | sed 's/,"/, "/g')

# --- the stamp: everything that the result depends on, which the place of the checkout is not --------------------------
patches=()
for patch in "$recipe"/*.patch; do
  case $stock:${patch##*/} in 1:cpu-*) ;; *) patches+=("$patch") ;; esac
done
read_too=()
[ "$cuda" = 0 ] || read_too=("$recipe/find_cuda.sh")
interpreter=$("$python" -I -c 'import sys; print(sys.version_info[:2], sys.base_prefix)')
stamp=$({ cat "$recipe/CMakeLists.txt" "${read_too[@]}" "${patches[@]}"; echo "$sha256 $settings $interpreter"; } | sha256sum | cut -d' ' -f1)
# Libraries outside /usr, such as NVIDIA's packages in the environment, are named by their folders: they may have moved.
finds_its_libraries() { ! ldd "$1" 2>/dev/null | grep -q 'not found'; }
if [ -x "$bin/caffe" ] && [ -f "$site/caffe/_caffe.so" ] && grep -qs "\"$stamp\"" "$site/caffe/build_info.json" &&
   finds_its_libraries "$site/caffe/_caffe.so"; then
  echo "Caffe is built already ($site/caffe)"
  exit 0
fi

# --- what must be there before we start -------------------------------------------------------------------------------
for tool in g++:g++ cmake:cmake make:make protoc:protobuf-compiler patch:patch pkg-config:pkg-config; do
  command -v "${tool%%:*}" >/dev/null || fail "${tool%%:*} is not installed: apt-get install ${tool#*:} (or 'make setup' as root)"
done
missing=$("$root/docker/packages.sh" missing)
[ -z "$missing" ] || fail "Debian packages are missing: apt-get install" $missing
minor=$("$python" -I -c 'import sys; print("%d%d" % sys.version_info[:2])')
if ! ls /usr/lib/*/libboost_python"$minor".so >/dev/null 2>&1; then
  have=$(ls /usr/lib/*/libboost_python3*.so 2>/dev/null | sed -E 's/.*python3([0-9]+)\.so/3.\1/' | sort -u | paste -sd' ')
  fail "$python is Python ${minor:0:1}.${minor:1}, Boost.Python here is for ${have:-none}: make setup PYTHON=/usr/bin/python${have%% *}"
fi
"$python" -I -c 'import numpy; raise SystemExit(numpy.__version__.split(".")[0] != "1")' 2>/dev/null ||
  fail "$python has no NumPy 1, which pycaffe is written for: run 'make setup', or pip install 'numpy<2'"
architectures='' cuda_version='' cudnn_version='' nccl_version='' nvcc='' cuda_includes=() cuda_libraries=() cuda_folders=()
[ "$cuda" = 0 ] || . "$recipe/find_cuda.sh"

mkdir -p "$build" || fail "cannot write to $build: set BUILD_DIR to a folder that you own"
# Two builds in one folder would tear each other's files.
exec 9>"$build/.lock"
flock -n 9 || fail "another build runs in $build: wait for it, or set BUILD_DIR"

# --- the source: fetched, checked, unpacked, patched ------------------------------------------------------------------
archive=${CAFFE_SDIST:-$build/$package-$version.tar.gz}
checked() { [ "$(sha256sum <"$archive" | cut -d' ' -f1)" = "$sha256" ]; }
if [ -n "${CAFFE_SDIST:-}" ]; then
  [ -f "$archive" ] || fail "CAFFE_SDIST=$archive: no such file"
elif ! { [ -f "$archive" ] && checked; }; then
  rm -f "$archive"
  # --require-hashes: pip looks at nothing of the archive before its checksum is right.
  echo "$package==$version --hash=sha256:$sha256" >"$build/source.txt"
  "$python" -I -m pip download --quiet --no-deps --no-binary :all: --require-hashes -d "$build" -r "$build/source.txt" >"$build/download.log" 2>&1 ||
    fail "cannot get $package==$version from PyPI ($(grep -m1 -iE 'hash|error|could not' "$build/download.log" | head -c 200); log: $build/download.log): check the network, or set CAFFE_SDIST=FILE"
fi
checked || fail "$archive: wrong checksum (sha256 must be $sha256): delete it and try again"

source=$build/source-${stamp:0:12}
if [ ! -d "$source" ]; then
  echo "unpacking $upstream"
  find "$build" -maxdepth 1 \( -name 'source-*' -o -name 'objects-*' -o -name unpack \) -exec rm -rf {} +
  mkdir "$build/unpack"
  tar -xzf "$archive" -C "$build/unpack" --strip-components=1 || fail "$archive: cannot be unpacked into $build (is the disk full?)"
  rm -rf "$build/unpack/.git"
  for hunk in "${patches[@]}"; do
    patch --quiet --batch -d "$build/unpack" -p1 <"$hunk" >"$build/patch.log" 2>&1 || fail "$hunk does not apply: see $build/patch.log"
  done
  mv "$build/unpack" "$source"
fi

# --- compile ------------------------------------------------------------------------------------------------------------
objects=$build/objects-${stamp:0:12}
log=$build/build.log
listed() { local IFS=';'; echo "$*"; }
[ "$cuda" = 0 ] || echo "with CUDA $cuda_version for $architectures, cuDNN ${cudnn_version:-none}, NCCL ${nccl_version:-none}"
echo "compiling Caffe (2-3 minutes on 2 cores$([ "$cuda" = 1 ] && echo ', about 10 with CUDA'); log: $log)"
{
  cmake -S "$recipe" -B "$objects" -DCMAKE_BUILD_TYPE=Release -DCAFFE_SOURCE="$source" -DCAFFE_PYTHON="$python" \
        -DCAFFE_MARCH="$march" -DCAFFE_STOCK="$stock" -DCAFFE_OPT="$opt" \
        -DCAFFE_CUDA="$cuda" -DCAFFE_CUDNN="${cudnn_version:-0}" -DCAFFE_NCCL="${nccl_version:-0}" \
        -DCMAKE_CUDA_COMPILER="$nvcc" -DCMAKE_CUDA_ARCHITECTURES="$architectures" -DCAFFE_CUDA_INCLUDES="$(listed "${cuda_includes[@]}")" \
        -DCAFFE_CUDA_LIBRARIES="$(listed "${cuda_libraries[@]}")" -DCMAKE_INSTALL_RPATH="$(listed "${cuda_folders[@]}")" \
        -DCMAKE_INSTALL_PREFIX="$objects/install" &&
  cmake --build "$objects" -j"${JOBS:-$(nproc)}" &&
  cmake --install "$objects"
} >"$log" 2>&1 || fail "the compilation failed: $(grep -m1 -A3 -E 'error|Error|No space' "$log" | tr -s '[:space:]' ' ' | head -c 300); whole log: $log"

# --- into the environment: tried under another name, then renamed, so that a half-copied build is never taken for a whole one
new=$site/.caffe-new
{ rm -rf "$new" && mkdir "$new"; } 2>/dev/null || fail "cannot write to $site: run as the user who owns the environment"
cp -r "$objects/install/python/caffe" "$new/caffe"
"$python" -I -B -c 'import sys; sys.path.insert(0, sys.argv[1]); import caffe' "$new" 2>"$build/import.log" || fail "Caffe was built, but $python cannot import it: $(tail -1 "$build/import.log")"
quoted() { [ -n "$1" ] && echo "\"$1\"" || echo false; }
cat >"$new/caffe/build_info.json" <<INFO
{"stamp": "$stamp",
 "source": "$upstream ($package $version)",
 "patches": [$(printf '%s\n' "${patches[@]}" | sed 's|.*/\(.*\)|"\1"|' | paste -sd,)],
 "settings": {$settings},
 "cuda": $(quoted "$cuda_version"),
 "cudnn": $(quoted "$cudnn_version"),
 "nccl": $(quoted "$nccl_version"),
 "architectures": [$([ "$cuda" = 0 ] || echo "\"${architectures//;/\", \"}\"")],
 "stock": $([ "$stock" = 1 ] && echo true || echo false),
 "march": "${march:-generic}",
 "optimization": "-O$opt",
 "compiler": "$(g++ -dumpfullversion -dumpversion | head -1)",
 "openblas": "$(pkg-config --modversion openblas)",
 "protobuf": "$(protoc --version | cut -d' ' -f2)"}
INFO
install -m 755 "$objects/install/bin/caffe" "$bin/caffe"
rm -rf "$site/caffe"
mv "$new/caffe" "$site/caffe"
rm -rf "$new" "$objects" "$source"
echo "Caffe is ready: $bin/caffe and $site/caffe"
