#!/usr/bin/env bash
# Reads docker/packages.txt.   packages.sh list | missing | install [test]    ("test": those that only the tests need)
#                              packages.sh runtime FILE ...    those that these programs and libraries need once built
set -euo pipefail

list=$(dirname "${BASH_SOURCE[0]}")/packages.txt
[ "${1:-}" = runtime ] || case ${2:-} in
  "") only='$NF != "test"' ;;
  test) only='$NF == "test"' ;;
  *) echo "packages.sh: error: $2: only test can be asked for" >&2; exit 2 ;;
esac
names() { awk "!/^#/ && NF && $only { print \$1 }" "$list"; }

# A name per line that dpkg does not have fully installed. Where there is no dpkg we cannot know, and say so.
missing() {
  command -v dpkg-query >/dev/null || { echo "packages.sh: no dpkg here: see docker/packages.txt for what Caffe needs" >&2; return; }
  names | while read -r name; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
  done
}

# What is marked "run"; of the -dev packages among it, the packages of the libraries that the files are linked with. A
# library that no package owns came with the files.
runtime() {
  awk '!/^#/ && $NF == "run" && $1 !~ /-dev$/ { print $1 }' "$list"
  local linked
  linked=$(ldd "$@")
  if grep -q 'not found' <<<"$linked"; then
    echo "packages.sh: error: $(grep -m1 'not found' <<<"$linked" | xargs): install it before asking what to install" >&2
    return 1
  fi
  awk '$3 ~ "^/" { print $3 }' <<<"$linked" | sort -u | while read -r library; do
    library=$(realpath "$library")
    # dpkg knows some of /usr/lib as /lib still.
    { dpkg-query -S "$library" 2>/dev/null || dpkg-query -S "${library#/usr}" 2>/dev/null || true; } | cut -d: -f1
  done | sort -u
}

case ${1:-} in
  list) names ;;
  runtime) shift && [ $# -gt 0 ] || { echo "packages.sh: error: runtime of which files?" >&2; exit 2; }; runtime "$@" ;;
  missing) missing ;;
  install)
    needed=$(missing | paste -sd' ')
    [ -n "$needed" ] || exit 0
    as_root=()
    if [ "$(id -u)" != 0 ]; then
      command -v sudo >/dev/null && sudo -n true 2>/dev/null || {
        echo "packages.sh: error: these Debian packages are missing, and this is not root: sudo apt-get install --no-install-recommends $needed" >&2
        exit 1
      }
      as_root=(sudo)
    fi
    echo "installing Debian packages: $needed"
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq &&
      "${as_root[@]}" apt-get install -y -qq --no-install-recommends $needed >/dev/null || {
        echo "packages.sh: error: apt-get could not install: $needed" >&2
        exit 1
      }
    ;;
  *) echo "usage: packages.sh list | missing | install [test] | runtime FILE ..." >&2; exit 2 ;;
esac
