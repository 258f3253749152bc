"""One frozen config per stage: the only place where defaults are written.

The command line makes its options from these fields. Field kinds:

- `read_path` / `write_path`: where things are. Relative defaults are meant inside the workspace. They do not enter the
  fingerprint of the work; the content digests of inputs do.
- `setting`: anything that can change the result. Enters the fingerprint.
- `runtime`: how the work is done (device, batch size, workers); must not change the result beyond rounding.

Nothing here imports torch, numpy or h5py, so that help is instant.

`base` has the machinery; the configs are in `data`, `labels`, `training`, `results` and `programs`.
"""
