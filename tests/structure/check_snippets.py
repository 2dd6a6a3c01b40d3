"""Checks that README.md and docs/guide.md show the examples' C++, and times as they were measured.

    check_snippets.py ROOT

A block of C++ must stand, line for line, in the example that was named last before it, and a block
of output in that example's expected output. The times of a case in README.md are those of
docs/speed.md, its first column there. Prints one line per fault, and exits with 1 if there is one.
"""

import pathlib
import re
import sys

TOKEN = re.compile(r"examples/(\w+)\.cpp|^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def faults_of(root, name):
    """(line number, fault) of each block that its example does not hold."""
    text = (root / name).read_text("utf-8")
    example = None
    for match in TOKEN.finditer(text):
        if match[1]:
            example = match[1]
            continue
        kind, block = match[2], match[3]
        if kind not in ("cpp", "text"):
            continue
        line = text.count("\n", 0, match.start()) + 1
        if example is None:
            yield line, "no example is named before this block"
            continue
        path = root / "examples" / (example + (".cpp" if kind == "cpp" else ".expected"))
        if f"\n{block}" not in f"\n{path.read_text('utf-8')}":
            yield line, f"this block is not in examples/{path.name}"


def cases_of(text):
    """(line number, case, cells) of each row of a table that is of a case of bench/speed."""
    for line, row in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if row.startswith("| ") and re.fullmatch(r"[a-z]+(/\w+)+", cells[0]):
            yield line, cells[0], cells[1:]


def faults_of_speed(root):
    """(line number, fault) of each row of README.md with other times than docs/speed.md."""
    measured = {}
    for _, case, cells in cases_of((root / "docs/speed.md").read_text("utf-8")):
        measured.setdefault(case, cells)  # of the first table: those with AVX2 come last
    for line, case, cells in cases_of((root / "README.md").read_text("utf-8")):
        # heed, ms | roofline of caches of float; the other table is of narrow elements alone
        known = measured.get(case)
        if known is None or "%" not in cells[0] and cells[:2] != [known[0], known[2]]:
            yield line, f"{case}: not the times of docs/speed.md"


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    faults = [f"{name}:{line}: {fault}" for name in ("README.md", "docs/guide.md")
              for line, fault in faults_of(root, name)]
    faults += [f"README.md:{line}: {fault}" for line, fault in faults_of_speed(root)]
    print("\n".join(faults) or "every block is in its example, every time as measured")
    sys.exit(1 if faults else 0)
