"""Training of networks: one loop for all methods.

`method` says what a training has of its own (networks, optimisers, one step) and what the loop lends it, `loop` is the
loop, `devices` sets networks up for a device, a precision and several processes (`synced_norm` for BatchNorm on CPUs),
`sampling` fixes which samples make which step, `loading` reads batches ahead in threads, `checkpoints` stores and restores
the state of a training, `meter` means losses and times
steps, `logs` writes what can be followed meanwhile, and `runs` is the folder that all of it lies in.
"""
