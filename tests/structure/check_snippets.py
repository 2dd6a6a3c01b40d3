"""Checks that the C++ of README.md and docs/guide.md is that of the examples.

    check_snippets.py ROOT

A block of C++ must stand, line for line, in the example that was named last before it, and a block
of output in that example's expected output. Prints one line per fault, and exits with 1 if there is
one.
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


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    faults = [f"{name}:{line}: {fault}" for name in ("README.md", "docs/guide.md")
              for line, fault in faults_of(root, name)]
    print("\n".join(faults) or "every block is in its example")
    sys.exit(1 if faults else 0)
