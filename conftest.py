"""What every test and doctest finds in place."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products on many threads wait for each other

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _names_of_the_doctests(doctest_namespace):
    doctest_namespace["np"] = np
