#!/usr/bin/env bash
# install_test.sh -- installs moesim, moves it elsewhere, and uses it there as a stranger would.
#
# Usage: install_test.sh BUILD SOURCE DIRECTORY COMPILER [FLAG...]
#
# BUILD has to be built. DIRECTORY is emptied. The program runs, a C program builds through
# pkg-config and through CMake and gets the program's digest, the header is C and C++ by itself, the
# manual and the completions are there and know what the program knows.
set -euo pipefail

build=$1
source=$2
directory=$3
compiler=$4
flags=("${@:5}")
problems=0

problem() {
    printf 'install_test: %s\n' "$*" >&2
    problems=$((problems + 1))
}

# expect WHAT COMMAND...
expect() {
    local what=$1
    shift
    "$@" >"$directory/log" 2>&1 || {
        cat "$directory/log" >&2
        problem "$what"
    }
}

rm -rf "$directory"
mkdir -p "$directory/empty" # where nothing can be found by chance
cd "$directory/empty"
unset MOESIM_DATA
CMAKE_GENERATOR=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$build/CMakeCache.txt")
export CMAKE_GENERATOR # the one that is surely here
cmake --install "$build" --prefix "$directory/first" >"$directory/log" || {
    cat "$directory/log"
    exit 1
}
prefix=$directory/moved/here
mkdir -p "$directory/moved"
mv "$directory/first" "$prefix"
moesim=$prefix/bin/moesim
data=$prefix/share/moesim

# A price that only the moved prefix knows shows which presets are read.
sed 's/^usd_per_gpu_hour:.*/usd_per_gpu_hour: 1.0/' "$data/scenarios/prices/h800-lease.yaml" \
    >"$data/scenarios/prices/only-here.yaml"
"$moesim" list models >"$directory/models" || problem "moesim list models"
grep -q '^deepseek-v3 ' "$directory/models" || problem "moesim list models lacks deepseek-v3"
"$moesim" list prices >"$directory/prices" || problem "moesim list prices"
grep -q '^only-here ' "$directory/prices" || problem "the presets are not those of the prefix"

# simulates NAME COMMAND...: runs a command that prints a digest.
scenario=$data/scenarios/studies/deepseek_v3_decode_32xh800.yaml
settings=(trace.tokens=4096 price=only-here placement.strategy=eplb placement.redundant_experts=32
    placement.rebalance_interval_steps=1)
options=()
for setting in "${settings[@]}"; do
    options+=(--set "$setting")
done
digest=$("$moesim" run "$scenario" "${options[@]}" -o "$directory/program.db" |
    sed -n 's/^run [0-9a-f]*, digest //p')
[[ $digest =~ ^[0-9a-f]{16}$ ]] || problem "moesim run printed no digest"
if command -v gnuplot >/dev/null; then
    expect "moesim report" "$moesim" report "$directory/program.db" -o "$directory/page"
    [ -s "$directory/page/index.html" ] || problem "moesim report left no page"
fi

# same_digest HOW PROGRAM
same_digest() {
    local found
    found=$(MOESIM_DATA=$data "$2" "$scenario" "$directory/$1.db" "${settings[@]}") ||
        problem "$1: the program failed"
    [ "$found" = "$digest" ] || problem "$1: digest $found, but moesim run has $digest"
}

# Ranks load their module from the moved prefix.
if [ -e "$build/moesim_mpi.so" ] && command -v mpirun >/dev/null; then
    printf 'version: 1\nscenario: %s\nset: {trace.tokens: 4096}\nvary: {seed: [1, 2]}\n' "$scenario" \
        >"$directory/study.yaml"
    expect "moesim sweep on two ranks" env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
        ASAN_OPTIONS=detect_leaks=0 mpirun -np 2 --oversubscribe "$moesim" sweep \
        "$directory/study.yaml" -o "$directory/sweep.db"
    grep -q 'of 2 ranks' "$directory/log" || problem "moesim sweep did not use two ranks"
fi

# Through pkg-config.
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name moesim.pc)")
export PKG_CONFIG_PATH
[ "$(cd "$(pkg-config --variable=datadir moesim)" && pwd -P)" = "$(cd "$data" && pwd -P)" ] ||
    problem "pkg-config: datadir is not in the moved prefix"
read -ra found_flags < <(pkg-config --cflags --libs moesim)
expect "pkg-config: the program does not build" "$compiler" "${flags[@]}" -std=c11 -Wall -Wextra \
    -Wpedantic -Werror "$source/tests/install/embed.c" -o "$directory/embed" "${found_flags[@]}"
same_digest pkg-config "$directory/embed"

# Through CMake.
expect "find_package: not found" cmake -S "$source/tests/install" -B "$directory/cmake" \
    -DCMAKE_C_COMPILER="$compiler" -DCMAKE_C_FLAGS="${flags[*]}" -DCMAKE_PREFIX_PATH="$prefix"
grep -q "^-- data: $data\$" "$directory/log" || problem "find_package: no data directory"
expect "find_package: the program does not build" cmake --build "$directory/cmake"
same_digest find_package "$directory/cmake/embed"
if cmake -S "$source/tests/install" -B "$directory/older" -DCMAKE_C_COMPILER="$compiler" \
    -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON >"$directory/log" 2>&1
then
    problem "find_package: found without the libraries that it needs"
fi
grep -q 'moesim needs pkg-config' "$directory/log" || problem "find_package: does not say why"

# What a program sees: one header, and names that begin with moesim_.
[ "$(find "$prefix/include" -type f)" = "$prefix/include/moesim/moesim.h" ] ||
    problem "there is more than one header"
echo '#include <moesim/moesim.h>' >"$directory/alone.c"
expect "the header is no C11" "$compiler" -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
    -I"$prefix/include" "$directory/alone.c"
for cxx in c++ clang++; do
    if command -v $cxx >/dev/null && echo 'int main() {}' | $cxx -x c++ -fsyntax-only - 2>/dev/null
    then
        expect "the header is no C++17 for $cxx" $cxx -x c++ -std=c++17 -Wall -Wextra -Wpedantic \
            -Wshadow -Werror -fsyntax-only -I"$prefix/include" "$directory/alone.c"
    fi
done
visible=$(nm -g --defined-only "$(find "$prefix" -name libmoesim.a)" |
    awk 'NF == 3 && $2 == "T" && $3 !~ /^moesim_/ { print $3 }')
[ -z "$visible" ] || problem "names that a program may have itself: $visible"

# The manual: a page for every command, each readable.
for command in $("$moesim" --help | sed -n '/^  moesim /d; s/^  \([a-z]*\)  *[a-z].*/\1/p'); do
    page=$prefix/share/man/man1/moesim-$command.1
    [ -s "$page" ] || problem "there is no manual page for $command"
    "$moesim" "$command" --help | grep -o -e '--[a-z-]*' | sort -u | while read -r option; do
        sed 's/\\-/-/g' "$page" | grep -e "$option" >/dev/null || echo "$command $option"
    done >"$directory/missing"
    [ ! -s "$directory/missing" ] || problem "not in the manual: $(cat "$directory/missing")"
    twice=$(grep '^\.SH' "$page" | sort | uniq -d)
    [ -z "$twice" ] || problem "$command: two sections of one name: $twice"
    forms=$("$moesim" "$command" --help | sed '/^$/,$d' | wc -l)
    shown=$(sed -n '/^\.SH SYNOPSIS/,/^\.SH [^S]/p' "$page" | grep -c '^\.B \|^\\fB')
    [ "$forms" = "$shown" ] || problem "$command: $shown of $forms lines of its usage"
done
[ -s "$prefix/share/man/man1/moesim-trace-import.1" ] || problem "no page for trace import"
if command -v man >/dev/null && man -l "$prefix/share/man/man1/moesim.1" >/dev/null 2>&1; then
    for page in "$prefix"/share/man/man1/*.1; do
        complaints=$(MANWIDTH=100 man --warnings -l "$page" 2>&1 >/dev/null)
        [ -z "$complaints" ] || problem "$(basename "$page"): $complaints"
    done
fi

# Completion in bash. completes EXPECTED WORD...: the last word is completed.
completes() {
    local expected=$1
    shift
    COMP_WORDS=(moesim "$@")
    COMP_CWORD=$#
    COMPREPLY=()
    _moesim
    case " ${COMPREPLY[*]} " in
    *" $expected "*) ;;
    *) problem "completion of 'moesim $*' lacks '$expected': ${COMPREPLY[*]}" ;;
    esac
}

PATH=$prefix/bin:$PATH
# shellcheck source=/dev/null
. "$prefix/share/bash-completion/completions/moesim"
set +e
completes compare co
completes h100-sxm list gpus h1
completes deepseek_r1_h800 plan deep
completes gpt_oss_20b_chat_8xh100 serve ""
completes --version ""
completes generate trace gen
completes --axes trace import --a
completes --timeline run x.yaml --time
completes --help list --
completes gpu-models list gpu
completes only-here run x.yaml --set price = only
completes static,eplb compare x.yaml --vary placement.strategy = static,ep
completes vllm list engines v
completes vllm serve x.yaml --set serving.engine = v
completes cluster.gpu= run x.yaml --set cluster
completes deepseek-v3 trace generate --preset deep
completes gpt-oss-20b trace import --model gpt
# shellcheck disable=SC2154 # the completion file sets it
for key in $_moesim_keys; do
    kind=$(_moesim_kind_of_key "${key%=}")
    [ -n "$(_moesim_names moesim "$kind")" ] || problem "completion: nothing for $key"
done
set -e
if command -v zsh >/dev/null; then
    expect "completion in zsh does not parse" zsh -n "$prefix/share/zsh/site-functions/_moesim"
fi

printf 'install_test: %d problems\n' "$problems"
[ "$problems" -eq 0 ]
