"""The commands. Thin: each declares its options from a stage's config and calls the stage of the same name.

`main` holds the app and the exit codes, `options` turns configs into options, `workspace` finds defaults, `console` prints,
`stages` and `inspection` declare the commands. Nothing here imports torch before work starts.
"""
