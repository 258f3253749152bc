"""The HDF5 border: what stages hand to each other on disk.

`schema` says what each kind of file holds, `files` reads and writes them (streaming, atomic, complete or absent), `shards`
lets a long stage resume, `provenance` makes the digests and fingerprints by which work is skipped.
"""
