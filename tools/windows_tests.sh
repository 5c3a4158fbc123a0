#!/usr/bin/env bash
# windows_tests.sh [DIR [SUITE ...]]: runs the suites core, conformance, socket and handle on a Windows Python under Wine (see
# windows_python.sh), each on the built-in loop, on asyncio's selector loop and on its proactor loop, and prints a report. Not proof of
# real Windows. The status is 1 if a test failed; a test that Windows has no use for is "not applicable" and says why in the log.
#
# socket and handle run whole on every loop. Most of core is about the loop itself, or about what is the same on all of them; its rows
# for asyncio are the tests that ask for each loop in turn, and conformance is nothing else.
set -uo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$(mktemp -d)}
[ "$#" -gt 1 ] && suites=("${@:2}") || suites=(core conformance socket handle)
windows() { printf 'Z:%s' "${1//\//\\}"; }
paths=$(for package in core socket dns handle tls; do printf '%s\n' "$(windows "$here/packages/ae-$package/src")"; done)
# Later ones of cryptography (it makes the certificates) and cbor2 are written in Rust and ask for bcryptprimitives.dll, which Wine 8
# has not.
PATHS_FOR_WINDOWS_PYTHON=$paths "$here/tools/windows_python.sh" "$dir" \
  pytest hypothesis trustme "cryptography<42" "cbor2<6" idna dnspython 2>/dev/null >/dev/null || exit 2

failed=0
printf '%-12s %-20s %8s %8s %15s\n' suite loop passed failed "not applicable"
run() { # SUITE LOOP [PYTEST ARGUMENT ...]
  local suite=$1 loop=$2 log="$dir/$1-$2.log" line
  shift 2
  # Through a pipe: Wine refuses to start a program whose output goes to a file. Half an hour: two seconds pass until a Windows Python
  # has started under Wine, and the suite of core starts two hundred of them.
  (cd "$here" && timeout "${WINDOWS_TESTS_TIMEOUT:-1800}" "$dir/python" -X utf8 -m pytest -q -rfEs -p no:cacheprovider \
    "$(windows "$here/tests/$suite")" "$@") 2>&1 | cat > "$log"
  local status=${PIPESTATUS[0]}
  line=$(grep -aE '^[0-9]+ (passed|failed|skipped|deselected|error)|no tests ran' "$log" | tail -n 1)
  count() { grep -aoE "[0-9]+ $1" <<< "$line" | grep -oE '^[0-9]+' || echo 0; }
  local bad=$(($(count failed) + $(count error)))
  # Anything else than "all passed" (0), "some failed" (1) and "nothing to run" (5) is a crash or a hang.
  if [ "$status" -gt 1 ] && [ "$status" -ne 5 ]; then bad=$((bad > 0 ? bad : 1)); fi
  [ "$bad" -eq 0 ] || failed=1
  printf '%-12s %-20s %8s %8s %15s\n' "$suite" "$loop" "$(count passed)" "$bad" "$(count skipped)"
}
for suite in "${suites[@]}"; do
  run "$suite" loop -k "not asyncio-selector and not asyncio-proactor"
  for loop in asyncio-selector asyncio-proactor; do
    case $suite in
      core | conformance) run "$suite" "$loop" -k "$loop" ;;
      *) run "$suite" "$loop" --default-loop "$loop" ;;
    esac
  done
done
echo "logs: $dir/*.log"
exit "$failed"
