"""Comparing: whether one version of the code is slower than another, and how much could have been missed."""
