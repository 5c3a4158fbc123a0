"""The version of this distribution, and nothing else."""

__version__ = "1.0.0"
