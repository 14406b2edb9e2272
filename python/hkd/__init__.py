"""Layer-wise hint-based training on BVLC Caffe. Where to read, in the direction of the imports (a module imports only
what stands above it):

    paper.py        what the paper states            assumptions.py  what it leaves open
    data.py         the data sets and their manifests
    architecture.py the shape of a ResNet            values.py       what settings may be, and how they are written
    experiments.py  teacher, student, data set, settings
    resnet.py       the network in a few helpers     losses.py       hint loss, FSP, softened cross entropy
    layers/         what BVLC Caffe has no layer for fsp_flows.py    the FSP matrices between two nodes
    networks.py     one function a kind of network   prototxt.py     as a file, and as Caffe builds it
    solvers.py      typed solver files
    methods.py      a method is a list of stages     plans.py        stages: names, parents, seeds, files, digests
    generated.py    the committed prototxt and solver files
    surgery.py      weights from one stage into the next
    snapshots.py    what survives a kill             records.py      what a stage leaves behind
    ensembles.py    what nets answer, alone and together
    engines.py      Caffe or PyTorch                 torch_engine/   PyTorch on the same files
    parity.py       the one against the other        memory.py       what a network takes of a GPU
    parallel.py     several GPUs
    hint_dynamic/   what hint-dynamic KD does beside the loop
    recording.py    what a record says               training.py     the loop of one stage
    job.py          one stage, in a process of its own
    driver.py       the stages that a command needs, in order
    rows.py         a row of a table, and the stages it is measured on
    targets.py      the papers' tables and figures as data           cost.py      what each costs to make
    cells.py        which records may stand in one cell              tables.py    from records to tables
    figures.py      to figures                                       claims.py    what holds of what the paper claims
    drawing.py      a network as a picture                           report.py    all of it on one page
    comparisons.py  tables that no paper has                         measured.py   all of that, from collected records
    workflow.py     what the Snakefile runs

cli.py, files.py, locks.py, devices.py, gpus.py and progress.py are what the command lines stand on.
"""
