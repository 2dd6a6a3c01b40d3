"""Compiles one case and checks that it fails and why, in the first error.

    check_case.py CASE COMPILER OPTION...
"""

import re
import subprocess
import sys

case, *command = sys.argv[1:]
with open(case) as source:
    first_line = source.readline().rstrip("\n")
result = subprocess.run([*command, case], stderr=subprocess.PIPE, text=True)

if first_line.startswith("// compiles"):
    good = result.returncode == 0
elif first_line.startswith("// expect: "):
    words = first_line.removeprefix("// expect: ")
    errors = [line for line in result.stderr.splitlines() if re.search(r"\berror\b:", line)]
    good = result.returncode != 0 and words != "" and errors and words in errors[0]
else:
    sys.exit(f'{case}: the first line must be "// expect: WORDS OF THE MESSAGE" or "// compiles"')

if not good:
    sys.exit(f"{first_line}\ncompiler's exit code {result.returncode}, and its message:\n"
             f"{result.stderr}")
