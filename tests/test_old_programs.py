"""Programs written for DeZero 0.0.13 run unchanged, and give the numbers they always gave."""

import json
from pathlib import Path

import numpy as np
import old_programs
import pytest

GOLDEN = json.loads((Path(__file__).parent / "old_programs.json").read_text())


@pytest.mark.parametrize("program", old_programs.PROGRAMS, ids=lambda program: program.__name__)
def test_numbers_are_those_of_dezero(program):
    # Weights are float32 here and float64 there, so digits beyond float32 differ.
    np.testing.assert_allclose(program(), GOLDEN[program.__name__], rtol=2e-6, atol=1e-7)
