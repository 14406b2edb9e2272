"""From records to what people read: which may stand in one cell (runs), what tables and figures are made of (rows), those of
each paper (etri, fsp) and of all methods (targets), what few nets can say of a difference (significance), tables, figures,
claims, ensembles, tables that no paper has (ablations), how much of a spread is that of nets and of seeds (variation), how a
table is written (sheet), all of it on one page (report), the records that are kept with the project (kept), what is made of
them (collected) and shown in pages of words (shown), and weights that are kept too (weights). Beside that what each costs
(cost) at the speed of this machine (speed), networks as pictures (network_drawing), and what the Snakefile runs (workflow).

It may import every other room.
"""
