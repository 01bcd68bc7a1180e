"""Writes erasure/_isal_cdef.py: ISA-L's two functions in the form that cffi reads without parsing C.

    python tests/erasure/regenerate_isal_cdef.py

To parse the declarations at start would cost each command 40 to 70 ms.
"""

from pathlib import Path

import cffi

TARGET = Path(__file__).parents[2] / "erasure" / "_isal_cdef.py"
DECLARATIONS = """
void ec_init_tables(int k, int rows, unsigned char *matrix, unsigned char *tables);
void ec_encode_data(int length, int k, int rows, unsigned char *tables, unsigned char **in, unsigned char **out);
"""


def write(target: Path) -> None:
    """Generate the module at `target`."""
    builder = cffi.FFI()
    builder.cdef(DECLARATIONS)
    builder.set_source("shoal.erasure._isal_cdef", None)
    builder.emit_python_code(str(target))


if __name__ == "__main__":
    write(TARGET)
