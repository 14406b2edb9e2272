"""From records to what people read.

Runs: whether a folder is what its record says (checks), what must be alike for numbers to stand together (condition), the runs of
a folder (runs), those of one length beside others (views), and the records that are kept with the project (kept).
Rows: a method of an experiment (rows), those of each paper (etri, fsp) and of all methods (targets), and a row with its runs (lines).
What is said of them: ensembles, what few nets can say of a difference (significance) and say of two rows (differences), claims, how much
of a spread is that of nets and of seeds (variation), what a setting changes (open_choices), and where two engines part (engines_apart).
Tables and pictures: how a table is written (sheet), those of the papers (tables), of one experiment (experiment_table) and of no paper
(ablations), what pictures are drawn on (canvas), figures, learning_curves, networks as pictures (network_drawing), all of it on one page
(report), all that is made of the kept records (collected), where it stands in pages that people write (page_tables), and what is kept
too, for runs to go on from: weights, students' without their teacher's (slim), and stages on their way (unfinished).
Beside that what each costs (cost) at the speed of this machine (speed), and what the Snakefile runs (workflow).

It may import every other room.
"""
