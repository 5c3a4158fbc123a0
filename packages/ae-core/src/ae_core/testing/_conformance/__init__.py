"""The demands that every backend must meet."""
