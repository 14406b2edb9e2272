# Sourced by build_caffe.sh where CAFFE_CUDA=1: the compiler, NVIDIA's libraries and the architectures, or one line that
# says what is missing. Libraries are looked for in the toolkit's folder, in the nvidia-* packages of the Python that is
# built for, and in /usr; cuDNN and NCCL in CUDNN_ROOT and NCCL_ROOT alone where these are set.
#
# Sets: nvcc cuda_version cudnn_version nccl_version architectures cuda_includes cuda_libraries cuda_folders

if [ -n "${CUDA_HOME:-}" ]; then
  nvcc=$CUDA_HOME/bin/nvcc
  [ -x "$nvcc" ] || fail "CUDA_HOME=$CUDA_HOME: no bin/nvcc there: name the folder of a CUDA toolkit"
else
  nvcc=$(command -v nvcc || true)
fi
mapfile -t packaged < <("$python" -I -c 'import glob, os, sys; print(*(d for p in sys.path for d in sorted(glob.glob(os.path.join(p, "nvidia/*")))), sep="\n", end="")')
if [ -z "$nvcc" ]; then
  # NVIDIA's packages on PyPI have a compiler too (nvidia-cuda-nvcc, since CUDA 13).
  nvcc=$(for folder in "${packaged[@]}"; do ls "$folder/bin/nvcc" 2>/dev/null || true; done | head -1)
fi
[ -n "$nvcc" ] || fail "CAFFE_CUDA=1 needs nvcc: put it on PATH, name its toolkit with CUDA_HOME, run 'make caffe-cuda', or build without CAFFE_CUDA"
cuda_version=$("$nvcc" --version | sed -n 's/.*release [^,]*, V//p')
[ -n "$cuda_version" ] || fail "$nvcc --version names no release: is it NVIDIA's compiler?"
# nvcc may be a link or a script: it knows best where it lies.
toolkit=$(readlink -f "$("$nvcc" --dryrun -x cu -c /dev/null 2>&1 | sed -nE 's/^#\$ TOP=//p' | head -1)")

# --- architectures ------------------------------------------------------------------------------------------------------
known=$("$nvcc" --list-gpu-code | sed -nE 's/^sm_([0-9]+)$/\1/p' | sort -n | paste -sd' ')
knows() { case " $known " in *" $1 "*) ;; *) return 1 ;; esac; }
if [ -z "${CAFFE_CUDA_ARCHITECTURES:-}" ]; then
  # Volta or Turing, Ampere and Ada, Hopper: machine code for those that this nvcc knows. A card newer than the last one
  # compiles that one's PTX when it starts.
  knows 70 && architectures="70-real;80-real" || architectures="75-real;80-real"
  knows 90 && architectures+=";90" || architectures=${architectures%-real}
else
  architectures=$CAFFE_CUDA_ARCHITECTURES
  for name in ${architectures//;/ }; do
    [[ $name =~ ^([0-9]+)(-real|-virtual)?$ ]] || fail "CAFFE_CUDA_ARCHITECTURES=$architectures: $name is none: like 80-real;90 (both machine code and PTX where neither -real nor -virtual stands)"
    knows "${BASH_REMATCH[1]}" || fail "CAFFE_CUDA_ARCHITECTURES=$architectures: nvcc $cuda_version does not know ${BASH_REMATCH[1]}: it knows $known"
  done
fi

# --- does it compile? ----------------------------------------------------------------------------------------------------
trial=$(mktemp -d)
trap 'rm -rf "$trial"' EXIT
echo '__global__ void nothing() {}' >"$trial/nothing.cu"
if ! "$nvcc" ${CUDAHOSTCXX:+-ccbin "$CUDAHOSTCXX"} -std=c++17 -c "$trial/nothing.cu" -o "$trial/nothing.o" >"$trial/log" 2>&1; then
  host=${CUDAHOSTCXX:-g++}
  ! grep -q "unsupported GNU version" "$trial/log" ||
    fail "nvcc $cuda_version refuses $host $("$host" -dumpfullversion): install an older g++ and name it, like CUDAHOSTCXX=g++-11"
  fail "nvcc $cuda_version cannot compile with $host: $(grep -m1 . "$trial/log" | head -c 200)"
fi

# --- libraries ----------------------------------------------------------------------------------------------------------
cuda_includes=() cuda_libraries=() cuda_folders=()

# Adds the first ROOT that has both HEADER and libLIBRARY and, where FIELD is given, MAJOR in that field of HEADER.
# NVIDIA's Python packages have include/ and lib/ with libNAME.so.N alone, toolkits have lib64/, Debian has triplets.
use_library() {  # HEADER LIBRARY FIELD MAJOR ROOT...
  local header=$1 library=$2 field=$3 major=$4 root include found
  shift 4
  for root; do
    for include in "$root"/include "$root"/targets/*/include "$root"/include/*-linux-gnu; do
      [ -f "$include/$header" ] || continue
      [ -z "$field" ] || [ "$(header_field "$include/$header" "$field")" = "$major" ] || continue
      for found in "$root"/lib64/lib"$library".so{,.[0-9]*} "$root"/lib/lib"$library".so{,.[0-9]*} \
                   "$root"/targets/*/lib/lib"$library".so{,.[0-9]*} "$root"/lib/*-linux-gnu/lib"$library".so{,.[0-9]*}; do
        [ -f "$found" ] || continue
        cuda_includes+=("$include")
        cuda_libraries+=("$found")
        case $found in /usr/lib/*) ;; *) cuda_folders+=("$(dirname "$found")") ;; esac
        return 0
      done
    done
  done
  return 1
}
header_field() { sed -nE "s/^#define[[:space:]]+$2[[:space:]]+([0-9]+).*/\1/p" "$1" | head -1; }
header_version() {  # HEADER MAJOR MINOR PATCH, in the folder that use_library took last
  local file=${cuda_includes[-1]}/$1 && shift
  for field; do header_field "$file" "$field"; done | paste -sd.
}

major=${cuda_version%%.*}
roots=("$toolkit" "${packaged[@]}" /usr)
use_library cuda_runtime_api.h cudart "" "" "${roots[@]}" || fail "CUDA's runtime (cuda_runtime_api.h and libcudart) is not beside $nvcc: install the whole toolkit, or $python -m pip install 'nvidia-cuda-runtime==$major.*'"
# The compiler's own link test asks for the static runtime, which packages keep in lib/ and nvcc looks for in lib64/.
export LIBRARY_PATH="$(dirname "${cuda_libraries[0]}")"${LIBRARY_PATH:+:$LIBRARY_PATH}
use_library cublas_api.h cublas CUBLAS_VER_MAJOR "$major" "${roots[@]}" || fail "cuBLAS $major (cublas_v2.h and libcublas) is not found: install that of CUDA $major, or $python -m pip install 'nvidia-cublas==$major.*'"
use_library curand.h curand "" "" "${roots[@]}" || fail "cuRAND (curand.h and libcurand) is not found: install that of CUDA $major, or $python -m pip install nvidia-curand"

cudnn_roots=("${roots[@]}") nccl_roots=("${roots[@]}")
[ -z "${CUDNN_ROOT:-}" ] || cudnn_roots=("$CUDNN_ROOT")
[ -z "${NCCL_ROOT:-}" ] || nccl_roots=("$NCCL_ROOT")
cudnn_version=
if [ "$cudnn" != 0 ]; then
  if use_library cudnn_version.h cudnn "" "" "${cudnn_roots[@]}"; then
    cudnn_version=$(header_version cudnn_version.h CUDNN_MAJOR CUDNN_MINOR CUDNN_PATCHLEVEL)
    [ "${cudnn_version%%.*}" -ge 8 ] || fail "cuDNN $cudnn_version in ${cuda_includes[-1]}: 8 or newer is needed: set CUDNN_ROOT to one, or CAFFE_CUDNN=0"
  elif [ "$cudnn" = 1 ] || [ -n "${CUDNN_ROOT:-}" ]; then
    fail "cuDNN (cudnn_version.h and libcudnn) is not in ${CUDNN_ROOT:-the toolkit, the environment or /usr}: $python -m pip install nvidia-cudnn-cu$major, set CUDNN_ROOT, or CAFFE_CUDNN=0"
  fi
fi
nccl_version=
if [ "$nccl" = 1 ]; then
  use_library nccl.h nccl "" "" "${nccl_roots[@]}" || fail "NCCL (nccl.h and libnccl) is not in ${NCCL_ROOT:-the toolkit, the environment or /usr}: $python -m pip install nvidia-nccl-cu$major, set NCCL_ROOT, or leave CAFFE_NCCL out"
  nccl_version=$(header_version nccl.h NCCL_MAJOR NCCL_MINOR NCCL_PATCH)
fi
