"""How good a result is, by the field's measures.

`metrics` are pure functions on batches of points, `protocols` the published choices of joints, roots and frames by name,
`report` turns errors into means, intervals and tables.
"""
