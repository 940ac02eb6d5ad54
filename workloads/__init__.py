"""Workloads: what is measured."""
