"""Stages strung together: `demo` runs all of them on synthetic data, `deform_and_learn` alternates registration and training."""
