#!/bin/sh
# fresh_debian.sh -- run ./bootstrap demo and ./bootstrap test, each in a bare Debian of its own.
#
# usage: tests/fresh_debian.sh [DIRECTORY]     needs root, a network, debootstrap and git
#
# Makes a minimal root with debootstrap (from the mirror this machine uses), clones the last commit
# into it and runs the commands in a chroot, demo and test each in a fresh copy. Prints how long
# each took. Everything is under DIRECTORY (default: one in /tmp), which must be new and is removed
# at the end.
set -eu

suite=${SUITE:-bookworm}
source=$(cd "$(dirname -- "$0")/.." && pwd -P)
[ "$(id -u)" -eq 0 ] || { echo "fresh_debian.sh: run it as root" >&2 && exit 1; }
for program in debootstrap git unshare; do
    command -v "$program" >/dev/null || { echo "fresh_debian.sh: install $program" >&2 && exit 1; }
done
# shellcheck disable=SC2016 # apt-get fills in REPO_URI
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" \
    "Created-By: Packages" | head -n 1)}

place=${1:-$(mktemp -d /tmp/fresh-debian.XXXXXX)}
[ $# -eq 0 ] || mkdir "$place" # fails where it exists: nobody's files are removed below
trap 'rm -rf --one-file-system "$place"' EXIT

echo "making a bare $suite"
debootstrap --variant=minbase "$suite" "$place/bare" "$mirror" >"$place/debootstrap.log" 2>&1 || {
    tail -n 20 "$place/debootstrap.log"
    exit 1
}
git clone -q "$source" "$place/bare/root/moesim"

# The mounts are the private namespace's and go with it.
run_inside() {
    # shellcheck disable=SC2016 # the inner shell's $1 and $2
    unshare --mount --pid --fork sh -c 'mount -t proc proc "$1/proc" &&
        mount -t tmpfs tmpfs "$1/dev/shm" &&
        exec chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            /root/moesim/bootstrap "$2"' sh "$1" "$2" </dev/null
}

result=0
for command in demo test; do
    root=$place/$command
    cp -a "$place/bare" "$root"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf" || true
    for attempt in first second; do
        began=$(date +%s)
        if run_inside "$root" "$command" >"$place/$command.log" 2>&1; then
            outcome=passed lines=6
        else
            outcome=failed result=1 lines=200
        fi
        tail -n $lines "$place/$command.log"
        echo "./bootstrap $command, $attempt time: $outcome after $(($(date +%s) - began)) s"
    done
done
exit $result
