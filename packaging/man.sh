#!/bin/sh
# man.sh -- writes the manual from what the program says of itself, a page a command.
#
# Usage: man.sh MOESIM DIRECTORY
#
# DIRECTORY is emptied and gets moesim.1, moesim-run.1, moesim-trace-import.1, ... The commands are
# those that --help lists, so a new one needs nothing here. The same program gives the same bytes.
set -eu

if [ $# -ne 2 ] || { [ -e "$2" ] && [ ! -d "$2" ]; }; then
    echo 'usage: man.sh MOESIM DIRECTORY' >&2
    exit 1
fi
moesim=$1
directory=$2
program_lines=$(dirname "$0")/man.awk
version=$("$moesim" --version)

# page NAME SUMMARY < HELP
page() {
    awk -v name="$1" -v summary="$2" -v version="$version" -v pages="$pages" \
        -f "$program_lines" >"$directory/$1.1"
}

# What a help text lists as commands: a name and a summary a line, indented by two.
commands() {
    "$moesim" "$@" --help | sed -n '/^  moesim /d; /^usage:/,$s/^  \([a-z][a-z-]*\)  *\([a-z].*\)$/\1 \2/p'
}

# Only these have commands of their own: their usage says so.
has_commands() {
    "$moesim" "$1" --help | head -n 1 | grep -q ' COMMAND'
}

rm -rf "$directory"
mkdir -p "$directory"
list=$(commands | while read -r command summary; do
    printf '%s\t%s\n' "$command" "$summary"
    if has_commands "$command"; then
        commands "$command" | while read -r part summary; do
            printf '%s %s\t%s\n' "$command" "$part" "$summary"
        done
    fi
done)
pages=$(printf '%s\n' "$list" | cut -f 1 | sed 's/ /-/g; s/^/moesim-/' | tr '\n' ' ')

"$moesim" --help | page moesim "simulate routing and load balancing of Mixture-of-Experts models"
tab=$(printf '\t')
printf '%s\n' "$list" | while IFS=$tab read -r command summary; do
    # shellcheck disable=SC2086 # a command may be two words
    "$moesim" $command --help | page "moesim-$(printf '%s' "$command" | tr ' ' '-')" "$summary"
done
