"""A teacher from elsewhere: a file of weights becomes those of this project's network, blob by blob.

files.py       safetensors and PyTorch's own files as named arrays
layers.py      weights on their way: our layers, what each is from, what did not fit
pytorch.py     the names and the order of channels of PyTorch's CIFAR ResNets
caffemodel.py  the layers of a caffemodel, and what its Data layer says of the input
normalised.py  what the images went through there: into the Data layer's mean and the first convolution
teacher.py     all of it together: taken for an experiment, or refused in one line
options.py     the arguments of a command for it
"""
