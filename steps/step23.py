"""Step 23. A package.

Question: Where does code live that every following program needs?

In a package: a folder of files from which any program can import. The core of step 22 lies in one, as the file
dezero/core_simple.py. `from dezero.core_simple import Variable` runs that file once and takes a name out of it. With
`import dezero` Python runs the file dezero/__init__.py, which offers the names that programs need most. Those come
from dezero/core.py, a larger core that step 32 leads to. Until then the small one is asked for by its name.

Python looks for packages in the folders listed in sys.path. The folder of this step is among them. The folder above
it, which holds dezero, may not be. The file steps/road.py puts it there, so that every step runs from any folder.

From here on programs are short, and say what they want and not how it is done.

New: the package dezero, dezero.core_simple, road
Look at: the same formula and the same numbers as in step 22, with no core in sight.
"""

import re
import road
import sys
from pathlib import Path

import numpy as np

import dezero
from dezero import core_simple
from dezero.core_simple import Variable

# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(2.0), name="x")
y = 2 * x**3 - 1 / x
y.backward()
print(f"y = {y.data}")
print(f"dy/dx = {x.grad}")

print(f"Variable comes from {Variable.__module__}")
print(f"its file is {Path(core_simple.__file__).relative_to(road.ROOT).as_posix()}")
print(f"the folder above is in sys.path = {str(road.ROOT) in sys.path}")
print(f"dezero.Variable is another class = {dezero.Variable is not Variable}")

text = (road.ROOT / "steps" / "step22.py").read_text(encoding="utf-8").partition("# Demonstration")[0]
names = re.findall(r"^(?:class|def) (\w+)", text, re.MULTILINE)
print(f"classes and functions of step 22 = {len(names)}")
print(f"those that the package lacks = {sum(not hasattr(core_simple, name) for name in names)}")

# Exercise: start this step from another folder, then do the same with the line `import road` taken out.
# Hint: `python /where/it/is/steps/step23.py`. The second may work too, if dezero was installed with pip.
