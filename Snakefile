"""Every run that the tables and figures need, each stage once:

    snakemake --cores 2 tables                            all of the paper (see make_tables.py --cost first)
    snakemake --cores 2 table1 figure9 --config scale=0.01
    snakemake --cores 2 all-cifar10 --config scale=0.01   every method on one pair; all-methods: on every data set's
    snakemake --cores 2 cifar10-r14-r8                    one experiment, its methods side by side
    snakemake --workflow-profile profiles/slurm tables    on a cluster: profiles/kubernetes likewise

--config: scale, engine, precision, nets, experiments, seed, set, runs, data, out (python/hkd/results/workflow.py).
"""

import re
import sys

sys.path.insert(0, f"{workflow.basedir}/python")
from hkd.base.cli import UserError, fail
from hkd.results.targets import ALL_METHODS, TARGETS, WEIGHTS
from hkd.results.workflow import DONE, INDEXED, Workflow, gpus_a_job, settings

try:
    jobs = Workflow(settings(config))
    jobs.forget_lost()
except UserError as error:
    sys.exit(fail(error))

S = jobs.settings
RUN = f"{sys.executable} {workflow.basedir}/python/run_stage.py"
MAKE = f"{sys.executable} {workflow.basedir}/python/make_tables.py"


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
        f"rmdir {S.data}/{{wildcards.dataset}} 2>/dev/null || true; "
        f"{sys.executable} {workflow.basedir}/data_tools/make_lmdb.py --dataset {{wildcards.dataset}} --out {S.data}/{{wildcards.dataset}}"


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
        f"{sys.executable} {workflow.basedir}/data_tools/make_lmdb.py --dataset {{wildcards.dataset}} --index "
        f"--out {S.data}/{{wildcards.dataset}} && touch {{output}}"


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
            f"{RUN} {{params.words}} --threads {{threads}} && touch {{output}}"


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
            target=target,
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
