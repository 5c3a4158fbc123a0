"""The version of this distribution, and nothing else."""

__version__ = "1.1.0"
