#!/usr/bin/env bash
# sweep_slurm.sh -- the sbatch example on a Slurm of this machine alone, started for the test.
#
# Usage: sweep_slurm.sh MOESIM SOURCE DIRECTORY
#
# DIRECTORY is emptied. Daemons, ports and logs are the test's own; they end with it. The same
# study is run by sbatch on three ranks and by one process; the results have to be equal. Skipped
# (77) where Slurm or MPI is missing, or the daemons may not run.
set -euo pipefail

moesim=$1
source=$2
directory=$3

skip() {
    echo "skipped: $*"
    exit 77
}

for program in slurmctld slurmd sbatch mpirun sqlite3; do
    command -v "$program" >/dev/null || PATH=$PATH:/usr/sbin command -v "$program" >/dev/null ||
        skip "no $program (Debian: slurm-wlm, openmpi-bin, sqlite3)"
done
PATH=$PATH:/usr/sbin
[ -e "$(dirname "$moesim")/moesim_mpi.so" ] || skip "moesim was built without MPI"
[ "$(id -u)" = 0 ] || skip "slurmd needs to be root"

rm -rf "$directory"
mkdir -p "$directory/state" "$directory/spool"
chmod 755 "$directory"
directory=$(cd "$directory" && pwd -P)
daemons=()

stop() {
    for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
        kill "${daemons[i]}" 2>/dev/null || true
    done
    wait 2>/dev/null || true
}
trap stop EXIT

# wait_for WHAT COMMAND...: at most a minute.
wait_for() {
    local what=$1 tries=0
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -ge 240 ]; then
            tail -n 5 "$directory"/*.log >&2
            skip "$what"
        fi
        read -rt 0.25 <> <(:) || true
    done
}

port=$((20000 + $$ % 20000))
host=$(hostname -s)
cat >"$directory/slurm.conf" <<CONF
ClusterName=moesim
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
StateSaveLocation=$directory/state
SlurmdSpoolDir=$directory/spool
SlurmctldPidFile=$directory/slurmctld.pid
SlurmdPidFile=$directory/slurmd.pid
SlurmctldLogFile=$directory/slurmctld.log
SlurmdLogFile=$directory/slurmd.log
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
CONF
export SLURM_CONF=$directory/slurm.conf
slurmctld -D -i >/dev/null 2>&1 &
daemons+=($!)
slurmd -D -N "$host" >/dev/null 2>&1 &
daemons+=($!)
wait_for "Slurm's node does not come up" bash -c 'sinfo -h -o %T | grep -qx idle'

study=$source/scenarios/sweeps/router_lab_capacity.yaml
cd "$directory"
export MOESIM=$moesim MOESIM_DATA=$source OMPI_ALLOW_RUN_AS_ROOT=1 \
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ASAN_OPTIONS=detect_leaks=0
sbatch --wait --ntasks 3 --overcommit --output "$directory/job.log" \
    "$source/scenarios/sweeps/slurm.sbatch" "$study" "$directory/slurm.db" >"$directory/sbatch.log" || {
    cat "$directory/job.log" >&2
    exit 1
}
grep -q 'of 3 ranks' "$directory/job.log" || {
    cat "$directory/job.log" >&2
    echo "the job did not run on three ranks" >&2
    exit 1
}
[ -z "$(find . -name 'slurm.db.rank-*')" ] || {
    echo "files of ranks are left" >&2
    exit 1
}
"$moesim" sweep "$study" -o "$directory/alone.db" >/dev/null
for database in slurm alone; do
    for table in $(sqlite3 $database.db "SELECT name FROM sqlite_schema WHERE type = 'table' AND
            name != 'run_origin' ORDER BY name"); do
        echo "$table"
        sqlite3 $database.db "SELECT * FROM $table"
    done >$database.txt
done
cmp slurm.txt alone.txt
echo "equal: $(wc -l <alone.txt) rows from 3 ranks under Slurm and from one process"
