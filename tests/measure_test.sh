#!/usr/bin/env bash
# measure_test.sh -- measure.sh with a moe-bench that is not one: what breaks takes nothing with it.
#
# usage: measure_test.sh KERNELS_DIRECTORY
#
# The stand-in notes its arguments, fails for the version cluster, hangs where it is asked for
# ceilings, and leaves a row for everything else.
set -euo pipefail
kernels=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    printf 'measure_test.sh: %s\n' "$*" >&2
    cat "$folder/out.txt" >&2
    exit 1
}

cat >"$folder/moe-bench" <<'SH'
#!/usr/bin/env bash
echo "$*" >>"${0%/*}/calls.txt"
csv=/dev/null
for ((i = 1; i < $#; i++)); do
    [ "${!i}" != --csv ] || { i=$((i + 1)) && csv=${!i}; }
done
[ -s "$csv" ] || echo command,kernel,version,phase,model,dtype,num_tokens,routing,status >>"$csv"
case "$*" in
device*) [ -z "${MISSING:-}" ] || { echo "moe-bench: skipped: no Hopper" && exit 77; } ;;
ceilings* | "${HANGS:-nothing}"*) sleep 60 ;;
*"--versions cluster"*)
    echo "check,grouped_gate_up,cluster,,few rows,bf16,9,ragged,differs" >>"$csv"
    exit 1
    ;;
*) echo "check,gate,v1,,a model,,1,normal,ok" >>"$csv" ;;
esac
SH
chmod +x "$folder/moe-bench"

code=0
"$kernels/measure.sh" --build "$folder" --out "$folder/results" prove >"$folder/out.txt" 2>&1 ||
    code=$?

[ "$code" = 1 ] || fail "exit $code where something failed"
grep -q "from here on without cluster" "$folder/out.txt" || fail "cluster is not left out"
grep -q "versions stream.*--without cluster" "$folder/calls.txt" || fail "stream got no --without"
grep -q "kernels layer.*--without cluster" "$folder/calls.txt" || fail "layer got no --without"
if grep -q "versions persistent.*--without" "$folder/calls.txt"; then
    fail "something is left out before it failed"
fi
grep -q "WRONG grouped_gate_up cluster, few rows bf16" "$folder/out.txt" || fail "no summary"
[ "$(grep -c ',ok$' "$folder/results/rows.csv")" = 12 ] || fail "rows are missing"
cmp -s "$folder/out.txt" "$folder/results/log.txt" || fail "log.txt is not what was said"

# What hangs is ended by its limit or by the budget, whichever is sooner, and the next part begins.
code=0
"$kernels/measure.sh" --build "$folder" --out "$folder/results" --budget 8 ceilings ranks \
    >"$folder/out.txt" 2>&1 || code=$?

[ "$code" = 1 ] || fail "exit $code where something hung"
grep -q "cut off after .* s: .*ceilings" "$folder/out.txt" || fail "the hang was not told"
grep -q "out of time before ranks" "$folder/out.txt" || fail "the budget was not kept"
[ "$(grep -c ',ok$' "$folder/results/rows.csv")" = 12 ] || fail "a hang cost rows"

# Where the GPU cannot be used, or nothing was built, that is said once and nothing is tried.
: >"$folder/calls.txt"
code=0
MISSING=gpu "$kernels/measure.sh" --build "$folder" --out "$folder/results" check forward \
    >"$folder/out.txt" 2>&1 || code=$?
[ "$code" = 1 ] || fail "exit $code without a GPU"
grep -q "skipped: no Hopper" "$folder/out.txt" || fail "moe-bench's reason is lost"
[ "$(cat "$folder/calls.txt")" = device ] || fail "without a GPU something was tried"
code=0
"$kernels/measure.sh" --build "$folder/nowhere" --out "$folder/results" check \
    >"$folder/out.txt" 2>&1 || code=$?
[ "$code" = 1 ] || fail "exit $code without moe-bench"
grep -q "there is no .*nowhere/moe-bench: part build makes it" "$folder/out.txt" ||
    fail "a missing moe-bench was not told"

# A build that fails is told, and the moe-bench that lies there is measured all the same.
mkdir "$folder/bin"
printf '#!/bin/sh\necho "cmake: no compiler"\nexit 1\n' >"$folder/bin/cmake"
chmod +x "$folder/bin/cmake"
code=0
PATH=$folder/bin:$PATH "$kernels/measure.sh" --build "$folder" --out "$folder/prebuilt" build check \
    >"$folder/out.txt" 2>&1 || code=$?
[ "$code" = 1 ] || fail "exit $code where the build failed"
grep -q "cmake: no compiler" "$folder/out.txt" || fail "cmake's words are lost"
grep -q "not built: going on with the moe-bench that lies there" "$folder/out.txt" ||
    fail "an older moe-bench was taken in silence"
[ "$(grep -c ',ok$' "$folder/prebuilt/rows.csv")" = 8 ] || fail "nothing was measured with it"

# Once the time is over nothing more is begun, and nothing is taken for broken.
code=0
HANGS=check "$kernels/measure.sh" --build "$folder" --out "$folder/results" --budget 6 prove \
    >"$folder/out.txt" 2>&1 || code=$?
[ "$code" = 1 ] || fail "exit $code where the time was over"
[ "$(grep -c "out of time in prove, from here on: .*permute" "$folder/out.txt")" = 1 ] ||
    fail "the end of the time was not told, or more than once"
if grep -q "from here on without" "$folder/out.txt"; then
    fail "what found no time was left out as broken"
fi

# Wrong options are told before anything runs.
for wrong in "--budget 0" "--budget 1.5" "--models mixtral-8x7b,no-such" "--trace mixtral-8x7b" \
    "--trace mixtral-8x7b=$folder/none.npy:3" "no-such-part" "--out"; do
    : >"$folder/calls.txt"
    code=0
    # shellcheck disable=SC2086 # two words
    "$kernels/measure.sh" --build "$folder" $wrong >"$folder/out.txt" 2>&1 || code=$?
    [ "$code" = 1 ] || fail "exit $code after $wrong"
    [ "$(wc -l <"$folder/out.txt")" = 1 ] || fail "not one line after $wrong"
    [ ! -s "$folder/calls.txt" ] || fail "something ran after $wrong"
done
echo "measure.sh: ok"
