#!/usr/bin/env python3
"""What Snakemake calls to run a job on Kubernetes, by kubectl:

job.py submit [options] JOBSCRIPT     starts a Job that runs it, and prints its name
job.py status NAME                    prints running, success or failed
job.py NAME ...                       ends and deletes them

Every job mounts one volume where the machine that submits has it, so that paths mean the same everywhere.
"""

import argparse
import json
import subprocess
import sys
import uuid
from pathlib import Path


def manifest(options, folder):
    """The Job as Kubernetes takes it. One try: Snakemake's --retries decide on another."""
    limits = {"memory": f"{options.memory}M"} | ({"nvidia.com/gpu": str(options.gpus)} if options.gpus else {})
    container = {
        "name": "stage",
        "image": options.image,
        "command": ["bash", options.jobscript],
        "workingDir": folder,
        "resources": {"requests": {"cpu": str(options.cpus), "memory": f"{options.memory}M"}, "limits": limits},
        "volumeMounts": [{"name": "checkout", "mountPath": options.mount}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 90,  # run_stage.py writes a snapshot on SIGTERM
        "containers": [container],
        "volumes": [{"name": "checkout", "persistentVolumeClaim": {"claimName": options.claim}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"hkd-{uuid.uuid4().hex[:16]}", "labels": {"app": "hkd-caffe"}},
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 86400, "template": {"spec": pod}},
    }


def submit(arguments):
    parser = argparse.ArgumentParser(prog="job.py submit")
    parser.add_argument("--image", required=True)
    parser.add_argument("--claim", required=True, help="the PersistentVolumeClaim with the checkout, ReadWriteMany")
    parser.add_argument("--mount", required=True, help="where it is mounted, here and in every job")
    parser.add_argument("--cpus", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True, help="MB")
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--print", action="store_true", help="print the Job and start nothing")
    parser.add_argument("jobscript")
    options = parser.parse_args(arguments)
    if not Path.cwd().is_relative_to(options.mount):
        return f"the checkout is in {Path.cwd()}, not on the volume mounted at {options.mount}: clone it there, or change --mount"
    job = manifest(options, str(Path.cwd()))
    if options.print:
        print(json.dumps(job, indent=1))
        return 0
    done = kubectl("create", "-f", "-", stdin=json.dumps(job))
    if done.returncode == 0:
        print(job["metadata"]["name"])
    return done.returncode


def status(name):
    done = kubectl("get", "job", name, "-o", "json", quiet=True)
    if done.returncode:
        # Gone is failed; a server that does not answer says nothing of the job.
        print("failed" if "NotFound" in done.stderr else "running")
        return 0
    found = json.loads(done.stdout)["status"]
    print("success" if found.get("succeeded") else "failed" if found.get("failed") else "running")
    return 0


def kubectl(*arguments, stdin=None, quiet=False):
    try:
        done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("kubectl is not here: the jobs are started by it")
    if done.returncode and not quiet:
        print(done.stderr.strip(), file=sys.stderr)
    return done


def main(command, *rest):
    if command == "submit":
        return submit(rest)
    if command == "status":
        return status(*rest)
    return kubectl("delete", "job", "--ignore-not-found", "--wait=false", command, *rest).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
