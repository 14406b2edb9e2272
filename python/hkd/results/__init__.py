"""From records to what people read: which may stand in one cell (runs), rows and targets of the papers, tables, figures, claims,
ensembles, tables that no paper has (ablations), all of it from collected records (collected) and on one page (report).
Beside that what each costs (cost), networks as pictures (network_drawing), and what the Snakefile runs (workflow).

It may import every other room.
"""
