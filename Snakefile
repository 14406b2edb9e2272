"""Every run that the tables and figures need, each stage once:

    snakemake --cores 2 tables                            all of the paper (see make_tables.py --cost first)
    snakemake --cores 2 table1 figure9 --config scale=0.01
    snakemake --cores 2 all-cifar10 --config scale=0.01   every method on one pair; all-methods: on every data set's
    snakemake --cores 2 cifar10-r14-r8                    one experiment, its methods side by side
    snakemake --workflow-profile profiles/slurm tables    on a cluster: profiles/kubernetes likewise

--config: scale, engine, precision, nets, experiments, seed, set, runs, data, out (python/hkd/results/workflow.py).
"""

import os
import re
import shlex
import sys

sys.path.insert(0, f"{workflow.basedir}/python")
from hkd.base.cli import UserError, explain, fail, require_writable, use_project_python

use_project_python()
from hkd.base.python import SAFE_PATH
from hkd.results.targets import ALL_METHODS, TARGETS, WEIGHTS
from hkd.results.workflow import DONE, INDEXED, Workflow, gpus_a_job, settings

# For Snakemake's own children too: on a cluster it starts itself in the folder that it runs in.
os.environ["PYTHONSAFEPATH"] = "1"

try:
    jobs = Workflow(settings(config))
    jobs.check()
    jobs.forget_lost()
    S = jobs.settings
    if not os.access(".", os.W_OK):
        require_writable(S.runs)
except UserError as error:
    sys.exit(fail(error))
except OSError as error:
    sys.exit(fail(explain(error)))

# Snakemake keeps notes in the folder that it runs in (.snakemake/): of a read-only checkout, beside the runs.
if not os.access(".", os.W_OK):

    workdir: S.runs


def script(name):
    """The words that start a script of the checkout, for a `shell:`, in which a brace is doubled."""
    words = shlex.join([sys.executable, *SAFE_PATH, f"{workflow.basedir}/{name}"])
    return words.replace("{", "{{").replace("}", "}}")


RUN, MAKE = script("python/run_stage.py"), script("python/make_tables.py")
LMDB = script("data_tools/make_lmdb.py")
DATA = shlex.quote(S.data)


def results(name):
    target = (TARGETS | WEIGHTS).get(name)
    suffixes = ("md", "csv") if target is None or target.form == "table" else ("svg", "png")
    return [f"{S.out}/{name}.{suffix}" for suffix in suffixes]


# What a paper has; with chosen experiments these too. Every method on every pair would cost several times as much.
WANTED = [name for name in jobs.targets if name not in ALL_METHODS and (name in TARGETS or S.experiments)]


rule tables:
    default_target: True
    localrule: True
    input:
        [results(name) for name in WANTED],
        f"{S.out}/claims.md",
        f"{S.out}/report.html",


rule:
    name: "all-methods"
    localrule: True
    input:
        [results(name) for name in jobs.targets if name in ALL_METHODS],


rule dataset:
    localrule: True  # a cluster's nodes often have no way out
    output:
        f"{S.data}/{{dataset}}/manifest.json",
    wildcard_constraints:
        dataset="|".join(jobs.datasets()),
    shell:
        # The data tool replaces nothing that is there, and the folder that Snakemake made for it is not a data set.
        f"rmdir {DATA}/{{wildcards.dataset}} 2>/dev/null || true; "
        f"{LMDB} --dataset {{wildcards.dataset}} --out {DATA}/{{wildcards.dataset}}"


rule index:
    localrule: True
    input:
        # The index that a data set was built with is older than its manifest.
        ancient(f"{S.data}/{{dataset}}/manifest.json"),
    output:
        # Not the LMDB: Snakemake deletes a job's outputs before the job.
        f"{S.data}/{{dataset}}/{INDEXED}",
    wildcard_constraints:
        dataset="|".join(jobs.datasets()),
    shell:
        f"{LMDB} --dataset {{wildcards.dataset}} --index --out {DATA}/{{wildcards.dataset}} && touch {{output:q}}"


# A rule for each kind of stage: teacher, baseline, kd, hint, ...
for kind, folders in jobs.kinds().items():

    rule:
        name: kind
        input:
            lambda wildcards: jobs.inputs(wildcards.folder),
        output:
            # Not record.json: Snakemake deletes a job's outputs before the job and after a failed one.
            f"{S.runs}/{{folder}}/{DONE}",
        wildcard_constraints:
            folder="|".join(map(re.escape, folders)),
        params:
            words=lambda wildcards: jobs.words(wildcards.folder),
            network=lambda wildcards: jobs.fingerprint(wildcards.folder),
        threads: 1
        resources:
            gpu=gpus_a_job(S.engine),
        shell:
            f"{RUN} {{params.words}} --threads {{threads}} && touch {{output:q}}"


for target in jobs.targets:

    rule:
        name: f"{target}_files"
        localrule: True
        input:
            jobs.done(target),
        output:
            results(target),
        params:
            words=jobs.table_words(),
            target=jobs.made_of(target),
        shell:
            f"{MAKE} {{params.target}} {{params.words}}"

    rule:
        name: target
        localrule: True
        input:
            results(target),


for summary in ("claims.md", "report.html"):

    rule:
        name: summary.partition(".")[0]
        localrule: True
        input:
            [jobs.done(target) for target in WANTED],
        output:
            f"{S.out}/{summary}",
        params:
            words=jobs.table_words(),
            target=summary.partition(".")[0],
        shell:
            f"{MAKE} {{params.target}} {{params.words}}"
