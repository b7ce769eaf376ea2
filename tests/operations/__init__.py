"""The table of operations: one row for every public function of F, in the rooms they have there.

To add an operation, add its row to its room: `unary("sin", np.sin, torch="sin")`. What a row says is in row.py; what
is checked of each is in test_operations.py, but for what is particular to a function (test_functions.py and others).
"""

from operations import activation, attention, conv, elementwise, loss, norm, reduction, shape

ROOMS = {
    room.__name__.rpartition(".")[2]: room.ROWS
    for room in (elementwise, shape, reduction, activation, norm, attention, conv, loss)
}
TABLE = {row.name: row for rows in ROOMS.values() for row in rows}
