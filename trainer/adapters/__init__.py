"""Adapters: one line in the framework that you have, and it writes a run folder and obeys a request to stop.

Each is a module of its own, which alone loads its framework: `huggingface`, `lightning`, `keras`, `torchtune`.
"""
