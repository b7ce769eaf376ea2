"""Before NumPy loads: one thread. The tests' products are small, and two threads stall each other on a busy machine."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
