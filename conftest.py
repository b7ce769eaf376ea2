"""What every test and doctest finds in place."""

import importlib.util
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products on many threads wait for each other

import numpy as np
import pytest

# Their doctests need what only the extra `fast` brings.
collect_ignore_glob = [] if importlib.util.find_spec("numba") else ["dezero/kernels/compiled/*"]


@pytest.fixture(autouse=True)
def _names_of_the_doctests(doctest_namespace):
    doctest_namespace["np"] = np
