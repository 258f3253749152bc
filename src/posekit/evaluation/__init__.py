"""How good a result is, by the field's measures.

`metrics` are pure functions on batches of points, `protocols` the published choices of joints, roots and frames by name
(`bone_lengths` finds the canonical length that one of them rescales to). `predictions` and `baseline` are what can be
evaluated, seen from the samples of a data set that `keys` tells apart; `comparison` measures joints, `vertices` surfaces.
`report` turns errors into means, intervals and tables, `sample_errors` keeps those of single samples, and `pairing` compares
two results by them.
"""
