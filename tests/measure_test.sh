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
ceilings*) sleep 60 ;;
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
echo "measure.sh: ok"
