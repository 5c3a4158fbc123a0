"""The version of this distribution, and nothing else."""

__version__ = "1.0.0"

#: Asked by the upper packages at import: the name ``ae-core`` on the public package index belongs
#: to another project.
__project__ = "AnyEvent for Python"
