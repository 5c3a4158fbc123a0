"""Condition variables, tasks and how coroutines wait."""
