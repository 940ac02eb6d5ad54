"""Settings that must stand before torch is imported."""

import os

# Tests run beside each other and beside whatever else: threads that spin while they wait starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
