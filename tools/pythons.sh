#!/usr/bin/env bash
# pythons.sh [--others] [--sid DIR] [--free-threaded DIR] [--only WORD] [PYTEST ARGUMENT ...]: runs the suite on every CPython that is to be had, and
# prints one line for each: its version, what passed, failed and was skipped. What failed is run once more, and named. The status is 1 if it failed again.
#
#   --others               not on the Python that python3 is
#   found on the path, or under ~/.pyenv/versions: 3.11 and later
#   --sid DIR              in DIR a root of Debian sid is made by debootstrap (as root; about 400 MB), and its Pythons are tried in there
#                          3.14, 3.15 and the free-threaded ones, as far as sid has them
#   --only WORD            nothing but those in whose name (sid-python3.14t) the word is found
#   --free-threaded DIR    in DIR a free-threaded build is made of the sources that Debian sid has of python3.14
set -uo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
sid="" free="" only="" here_too=yes
while [ $# -gt 0 ]; do
  case $1 in
    --others) here_too=""; shift ;;
    --sid) sid=$2; shift 2 ;;
    --free-threaded) free=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || set -- tests examples
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
requirements=(pytest pytest-randomly hypothesis trustme cbor2 dnspython idna pyopenssl cryptography service-identity certifi trio anyio httpcore
  hatchling hatch-fancy-pypi-readme editables)
# ours are installed as in a checkout, from where they are: nothing asks an index for them
ours=()
for package in "$here"/packages/* "$here"/examples/ae-*; do ours+=(-e "$package"); done

try() { # NAME PYTHON [COMMAND THAT ENTERS ITS ROOT ...]
  local name=$1 python=$2 place=$work/$1 line status
  shift 2
  [[ $name == *$only* ]] || return 0
  if ! "$@" "$python" -m venv "$place" >"$work/$name.log" 2>&1; then
    printf '%-18s cannot make an environment: %s\n' "$name" "$(tail -n 1 "$work/$name.log")"
    failed=1
    return
  fi
  if ! "$@" "$place/bin/python" -m pip install -q "${requirements[@]}" >>"$work/$name.log" 2>&1; then
    printf '%-18s cannot be furnished: %s\n' "$name" "$(grep -i error "$work/$name.log" | head -n 1)"
    failed=1
    return
  fi
  if ! "$@" "$place/bin/python" -m pip install -q --no-deps --no-build-isolation "${ours[@]}" >>"$work/$name.log" 2>&1; then
    printf '%-18s cannot be given the packages: %s\n' "$name" "$(grep -i error "$work/$name.log" | head -n 1)"
    failed=1
    return
  fi
  (cd "$here" && "$@" "$place/bin/python" -m pytest -q -rfE -o "cache_dir=$place/cache" "${arguments[@]}") >"$work/$name.log" 2>&1
  status=$?
  line=$(grep -E '^[0-9]+ (passed|failed|skipped|error)' "$work/$name.log" | tail -n 1)
  printf '%-18s %-9s %s\n' "$name" "$("$@" "$place/bin/python" -c 'import platform; print(platform.python_version())' | tr -d '\n')" "${line:-status $status}"
  [ $status -ne 0 ] || return 0
  grep -E '^(FAILED|ERROR) ' "$work/$name.log" | sed 's/^/    /'
  if (cd "$here" && "$@" "$place/bin/python" -m pytest -q -o "cache_dir=$place/cache" --last-failed --last-failed-no-failures none "${arguments[@]}") \
    >"$work/$name.again.log" 2>&1; then
    echo "    unsteady: passed when it was run once more"
  else
    failed=1
    tail -n 60 "$work/$name.again.log"
  fi
}

arguments=("$@")
for minor in 11 12 13 14 15; do
  for candidate in "$(command -v "python3.$minor" || true)" "$HOME"/.pyenv/versions/3."$minor".*/bin/python; do
    [ -x "$candidate" ] || continue
    "$candidate" -c 'import ssl, venv' 2>/dev/null || continue
    [ -n "$here_too" ] || ! python3 -c "import sys; sys.exit(sys.version_info[1] != $minor)" || break
    try "python3.$minor" "$candidate"
    break
  done
done

if [ -n "$sid" ]; then
  if [ ! -x "$sid/usr/bin/python3" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,python3-dev,ca-certificates,gcc,libc6-dev,iproute2,openssl sid "$sid" ||
      { echo "sid: debootstrap failed"; exit 1; }
    for package in python3.14-venv python3.14-nogil python3.15-venv python3.15-nogil pypy3-venv; do
      chroot "$sid" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null 2>&1 ||
        echo "sid does not have $package"
    done
  fi
  # names and certificates are found as outside
  cp -L /etc/resolv.conf "$sid/etc/"
  cp -L /etc/ssl/certs/ca-certificates.crt "$sid/etc/ssl/certs/"
  for settings in /etc/pip.conf /etc/xdg/pip; do
    [ ! -e "$settings" ] || { mkdir -p "$sid${settings%/*}" && cp -r "$settings" "$sid${settings%/*}/"; }
  done
  mkdir -p "$sid$here" "$sid$work"
  mount --bind "$here" "$sid$here" && mount --bind "$work" "$sid$work" && mount -t proc proc "$sid/proc" && mount -t sysfs sys "$sid/sys" && mount --rbind /dev "$sid/dev"
  for python in "$sid"/usr/bin/python3.[0-9]* "$sid"/usr/bin/pypy3; do
    case $python in *-config) continue ;; esac
    [ -x "$python" ] || continue
    try "sid-${python##*/}" "/usr/bin/${python##*/}" chroot "$sid" env "HOME=/root" sh -c "cd '$here' && exec \"\$@\"" sh
  done
  # and what tests of network namespaces mount
  for place in run/netns dev proc sys "$work" "$here"; do umount -R "$sid/$place" 2>/dev/null; done
fi

if [ -n "$free" ]; then
  if [ ! -x "$free/bin/python3" ]; then
    mkdir -p "$work/source"
    (cd "$work/source" && apt-get source -qq python3.14 && cd python3.14-*/ &&
      ./configure -q --disable-gil --prefix="$free" && make -s -j2 && make -s install) >"$work/build.log" 2>&1 ||
      { tail -n 3 "$work/build.log"; echo "free-threaded: cannot be built"; exit 1; }
  fi
  try free-threaded "$free/bin/python3"
fi
exit $failed
