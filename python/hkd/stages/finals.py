"""final.caffemodel and final.solverstate: the two files of a stage's last snapshot, in which no folder of this machine stands.

So they are the same bytes wherever the data and the runs lie. Weights are matched by the names of layers; what the Data
layers in a caffemodel read is of no use to anyone.
"""

from pathlib import Path

from caffe.proto import caffe_pb2

from hkd.stages import records


def weights(caffemodel, dataset):
    """The bytes of a caffemodel with the files of its Data layers as the committed networks name them: data/NAME/..."""
    network = caffe_pb2.NetParameter.FromString(caffemodel)
    for layer in network.layer:
        if layer.data_param.HasField("source"):
            layer.data_param.source = _committed(layer.data_param.source, dataset)
        if layer.transform_param.HasField("mean_file"):
            layer.transform_param.mean_file = _committed(layer.transform_param.mean_file, dataset)
    return network.SerializeToString(deterministic=True)


def state(solverstate):
    """The bytes of a solverstate whose weights are the final ones: Caffe looks for these in the folder that it is started in."""
    solver = caffe_pb2.SolverState.FromString(solverstate)
    solver.learned_net = records.FINAL
    return solver.SerializeToString(deterministic=True)


def _committed(path, dataset):
    return f"data/{dataset}/{Path(path).name}"
