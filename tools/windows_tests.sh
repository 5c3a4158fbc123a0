#!/usr/bin/env bash
# windows_tests.sh [DIR [SUITE ...]]: runs the core, socket and handle suites on a Windows Python under Wine (see windows_python.sh), each on
# the built-in loop, on asyncio's selector loop and on its proactor loop, and prints a report. Not proof of real Windows.
# The status is 1 if a test failed; a test that Windows has no use for is "not applicable" and says why in the log.
set -uo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$(mktemp -d)}
[ "$#" -gt 1 ] && suites=("${@:2}") || suites=(core socket handle)
windows() { printf 'Z:%s' "${1//\//\\}"; }
paths=$(for package in core socket dns handle tls; do printf '%s\n' "$(windows "$here/packages/ae-$package/src")"; done)
PATHS_FOR_WINDOWS_PYTHON=$paths "$here/tools/windows_python.sh" "$dir" pytest hypothesis trustme idna dnspython 2>/dev/null >/dev/null || exit 2

# The suites use the built-in loop, or each backend in turn where they ask for one; the loop asyncio makes is chosen here.
failed=0
printf '%-10s %-20s %8s %8s %15s\n' suite loop passed failed "not applicable"
run() { # SUITE LOOP [PYTEST ARGUMENT ...]
  local suite=$1 loop=$2 log="$dir/$1-$2.log" line
  shift 2
  # Through a pipe: Wine refuses to start a program whose output goes to a file.
  (cd "$here" && timeout "${WINDOWS_TESTS_TIMEOUT:-900}" "$dir/python" -X utf8 -m pytest -q -p no:cacheprovider \
    "$(windows "$here/tests/$suite")" "$@") 2>&1 | cat > "$log"
  local status=${PIPESTATUS[0]}
  line=$(grep -aE '^[0-9]+ (passed|failed|skipped|deselected|error)|no tests ran' "$log" | tail -n 1)
  count() { grep -aoE "[0-9]+ $1" <<< "$line" | grep -oE '^[0-9]+' || echo 0; }
  local bad=$(($(count failed) + $(count error)))
  # Anything else than "all passed" (0), "some failed" (1) and "nothing to run" (5) is a crash or a hang.
  if [ "$status" -gt 1 ] && [ "$status" -ne 5 ]; then bad=$((bad > 0 ? bad : 1)); fi
  [ "$bad" -eq 0 ] || failed=1
  printf '%-10s %-20s %8s %8s %15s\n' "$suite" "$loop" "$(count passed)" "$bad" "$(count skipped)"
}
for suite in "${suites[@]}"; do
  run "$suite" loop -k "not asyncio"
  run "$suite" asyncio-selector -k asyncio-selector
  run "$suite" asyncio-proactor -k asyncio-proactor
done
echo "logs: $dir/*.log"
exit "$failed"
