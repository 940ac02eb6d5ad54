"""sparsemark's instrument: cases, checking, measuring, running, storing and comparing."""

__version__ = "0.1.0"
