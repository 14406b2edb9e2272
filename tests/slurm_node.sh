#!/usr/bin/env bash
# A real Slurm of one node for tests: this host, all its cores, one partition, no accounting.
#
#   eval "$(slurm_node.sh start FOLDER)"    # FOLDER: absolute, made if missing, keeps conf, state and logs
#   slurm_node.sh stop FOLDER               # ends its jobs and daemons; twice is fine
#
# Needs Debian's slurmctld slurmd slurm-client munge. Ports, munge socket and key are its own, so that
# a Slurm or a munged of the machine's own goes on undisturbed.
set -euo pipefail

error() { echo "slurm_node.sh: error: $*" >&2; exit 1; }

# A pid file may be stale and its number someone else's by now: ours has a file (its log) open in FOLDER.
ours() { [[ -n $1 && $'\n'$(readlink "/proc/$1"/fd/* 2>/dev/null) == *$'\n'"$folder/"* ]]; }

pid_of() { cat "$folder/$1.pid" 2>/dev/null || true; }

free_port() {  # below 32768, where the kernel hands out ports by itself
    local port
    for _ in {1..50}; do
        port=$((20000 + RANDOM % 12000))
        [[ $port != "${1-}" ]] || continue
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
    return 1
}

write_conf() {
    local user=$1 host=$2 ctld_port slurmd_port cpus memory srun
    if ! { ctld_port=$(free_port) && slurmd_port=$(free_port "$ctld_port"); }; then error "no free port"; fi
    cpus=$(nproc)
    memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    # batch_sched_delay: a job would wait up to 3 s for company.
    # MinJobAge: Snakemake asks squeue, which must still know a job when Snakemake comes round (180 s at most).
    # DefMemPerCPU: a job that names no memory would get all of it, and run alone.
    # config_overrides: a container may see more of the hardware than it was given.
    cat >"$folder/slurm.conf" <<CONF
ClusterName=onenode
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=$((memory / cpus))
SchedulerParameters=batch_sched_delay=0
ReturnToService=2
MinJobAge=3600
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    # snakemake-executor-plugin-slurm-jobstep drops SLURM_CONF before it calls srun, which would then
    # look for /etc/slurm/slurm.conf: this srun, first on PATH, puts it back. The real one is sought
    # beside scancel, as the first on PATH may be the work of an earlier start.
    srun=$(command -v scancel)
    srun=${srun%/*}/srun
    printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$folder/slurm.conf" "$srun" >"$folder/bin/srun"
    chmod +x "$folder/bin/srun"
}

start() {
    local user host tool
    for tool in munged slurmctld slurmd sinfo scancel srun; do
        command -v "$tool" >/dev/null || error "no $tool here: apt-get install slurmctld slurmd slurm-client munge"
    done
    # What munged and Slurm say of these is obscure.
    [[ $folder =~ ^[A-Za-z0-9_./+-]+$ ]] || error "FOLDER has a character that slurm.conf can't hold: $folder"
    if ! { user=$(id -un) && host=$(hostname -s); }; then error "no name for this user or host"; fi
    ((${#folder} + ${#host} <= 80)) || error "FOLDER is too long for the sockets in it: $folder"
    for tool in munged slurmctld slurmd; do
        ! ours "$(pid_of $tool)" || error "$tool runs in $folder already: stop it first"
    done

    trap failed EXIT
    mkdir -p "$folder"
    rm -rf "${folder:?}"/{state,spool,munge.key,*.log,*.pid}  # jobs of an earlier start must not come back
    mkdir -p "$folder"/{bin,state,spool}
    write_conf "$user" "$host"
    (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")

    # --force: munged refuses a socket that not everybody can reach, and FOLDER may be private
    daemon munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
        --pid-file="$folder/munged.pid" --seed-file="$folder/munged.seed" --log-file="$folder/munged.log"
    daemon slurmctld -c -f "$folder/slurm.conf"
    daemon slurmd -f "$folder/slurm.conf"

    for _ in {1..150}; do
        if [[ $(sinfo -h -o %T 2>/dev/null) == idle ]]; then
            trap - EXIT
            echo "export SLURM_CONF=$folder/slurm.conf"
            echo "export PATH=$folder/bin:\$PATH"
            return
        fi
        for tool in munged slurmctld slurmd; do
            why="$tool ended"
            ours "$(pid_of $tool)" || exit 1
        done
        sleep 0.2
    done
    why="the node is not idle after 30 s: $(sinfo -h -o '%T %E' 2>&1 | head -1)"
    exit 1
}

why="could not be set up"

daemon() {
    why="$1 does not start"
    # setsid: a Ctrl-C meant for the tests must not reach it; its output must not keep the caller's pipe open
    setsid "$@" >>"$folder/$1.out.log" 2>&1 </dev/null
    why="$1 wrote no pid file"
    for _ in {1..50}; do
        ! ours "$(pid_of "$1")" || return 0
        sleep 0.1
    done
    return 1
}

failed() {
    trap - EXIT
    echo "slurm_node.sh: error: $why (logs in $folder)" >&2
    tail -n 8 "$folder"/*.log >&2 || true
    stop
    exit 1
}

running() {  # our processes of the program $1*; Debian's slurmstepd is slurmstepd-wlm
    local proc
    for proc in /proc/[0-9]*; do
        if [[ $(readlink "$proc/exe") == */"$1"* ]] && ours "${proc#/proc/}"; then echo "${proc#/proc/}"; fi
    done
}

jobs_left() {  # what a job started and Slurm lost sight of: proctrack/linuxproc forgets a child whose parent has died
    local env
    for env in /proc/[0-9]*/environ; do
        if grep -qzxF "SLURM_CONF=$folder/slurm.conf" "$env" && grep -qz '^SLURM_JOB_ID=' "$env"; then
            env=${env#/proc/}
            echo "${env%/environ}"
        fi
    done 2>/dev/null
}

stop() {
    local name pid
    # Through Slurm first: pending jobs must not start, running ones get their SIGTERM and some seconds.
    if ours "$(pid_of munged)" && ours "$(pid_of slurmctld)" && ours "$(pid_of slurmd)"; then
        timeout 5 scancel --user="$(id -un)" 2>/dev/null || true
        for _ in {1..25}; do
            [[ -n $(running slurmstepd; jobs_left) ]] || break
            sleep 0.2
        done
    fi
    for name in slurmctld slurmd munged; do  # munged last: the others need it to the end
        pid=$(pid_of $name)
        if ours "$pid"; then
            kill "$pid" 2>/dev/null || true
            for _ in {1..50}; do
                ours "$pid" || break
                sleep 0.1
            done
        fi
    done
    # What has no pid file (slurmstepd outlives slurmd) or did not end
    for pid in $(running slurm) $(running munged) $(jobs_left); do
        kill -KILL "$pid" 2>/dev/null || true
    done
    rm -f "$folder"/*.pid "$folder"/munge.socket*
}

[[ $# == 2 && $1 =~ ^(start|stop)$ && $2 == /?* ]] || error "usage: slurm_node.sh start|stop FOLDER (an absolute path)"
PATH=$PATH:/usr/sbin           # the daemons' place, not on everyone's PATH
folder=$(realpath -m "$2")  # as /proc shows it
export SLURM_CONF=$folder/slurm.conf
"$1"
