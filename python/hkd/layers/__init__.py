"""Layers that BVLC Caffe does not have, as Python layers. They run on the CPU, also in a network on a GPU, and need this
project's python/ folder on PYTHONPATH: run_stage.py sees to it, other programs have to be told. Our `caffe` binary cannot run
them: the module caffe that they import brings a Caffe of its own; pycaffe can.

    fsp.py               the FSP matrix of two maps
    instance_weights.py  the weights of each image's hint losses: Caffe's layer around
    weighing.py          their arithmetic, which the torch engine has too, from
    meta_network.py      the meta-weight network, and
    history.py           what the image's weights were so far

They import NumPy, Caffe and one another, nothing else of this package.
"""
