"""Kernels: how it is computed. One file a kernel, its native source beside it, a folder per op."""
