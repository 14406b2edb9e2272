"""One stage of an experiment: its parents and seeds (stage), what it is called (names), how long it trains (schedule), its files and
digest (files), the committed files (committed), weights from one stage into the next (surgery), or from elsewhere (given), what survives
a kill (snapshots), the last of that in which no folder stands (finals), what is left behind (records), what a net answers (answers), the
data sets of the user's own that records speak of (own_data), a stage's losses in two engines side by side (loss_curves).

It may import base, paper, layers and networks.
"""
