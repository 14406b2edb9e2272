"""Layer-wise hint-based training on BVLC Caffe. Where to read, in the direction of the imports (a module imports only
what stands above it):

    paper.py        what the paper states            assumptions.py  what it leaves open
    data.py         the data sets and their manifests
    experiments.py  teacher, student, data set, settings
    resnet.py       the network in a few helpers     losses.py       hint loss, softened cross entropy
    networks.py     one function a kind of network   solvers.py      typed solver files
    methods.py      a method is a list of stages     plans.py        stages: names, parents, seeds, files, digests
    generated.py    the committed prototxt and solver files
    surgery.py      weights from one stage into the next
    snapshots.py    what survives a kill             records.py      what a stage leaves behind
    training.py     the loop of one stage            job.py          one stage, in a process of its own
    driver.py       the stages that a command needs, in order
    tables.py       from records to tables           figures.py      and to figures

cli.py, files.py, locks.py, devices.py and progress.py are what the command lines stand on.
"""
