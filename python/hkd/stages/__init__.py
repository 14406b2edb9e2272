"""One stage of an experiment: its name, parents, seeds, files and digest (stage), the committed files, weights from one stage
into the next (surgery), what survives a kill (snapshots), the last of that in which no folder stands (finals), what is left
behind (records), what a net answers (answers), the data sets of the
user's own that records speak of (own_data).

It may import base, paper, layers and networks.
"""
