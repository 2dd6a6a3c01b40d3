"""Checks the rules that a reader relies on and a compiler does not know: check_rules.py ROOT.

Prints one line per fault, as FILE:LINE: what to do, and exits with 1 if there is one.
"""

import pathlib
import re
import sys

LAYERS = {"base": 0, "simd": 1, "policy": 2, "rope": 2, "softmax": 3, "cache": 4, "attention": 5,
          "layers": 6, "instances": 7}
# cache/ and attention/ meet on one concept and know nothing else of each other.
MEETING_POINT = "heed/cache/page.hpp"
MAX_LINES = 300
MAX_COLUMNS = 100
SOURCES = {".hpp", ".cpp", ".py"}

INCLUDE = re.compile(r'\s*#\s*include\s*[<"]([^>"]+)[>"]')
STANDARD = re.compile(r"[a-z_]+$")
ALLOWED = re.compile(r"(unsupported/)?Eigen/|omp\.h$")
INTRINSICS = re.compile(r"\w*intrin\.h$|arm_neon\.h$")
FUNCTION_MACRO = re.compile(r"\s*#\s*define\s+\w+\(")
BOOL_TEMPLATE = re.compile(r"template\s*<[^<>]*\bbool\b")
LEFT_OPEN = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b")  # does not match this line
OPENING = re.compile(r"// SPDX-License-Identifier: MIT\n/// \\file\n((?:///.*\n)+)#pragma once\n")
MARK = re.compile(r"Layer (\d), (public|extension|detail)\.")


def includes(text):
    """(line number, included name) of each #include."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match[1]


def sentence(opening):
    """The words of a header's opening on one line."""
    return re.sub(r"\n/// *", " ", opening[1])


def check_layer(folder, number, name):
    """One #include of a header in include/heed/folder."""
    if STANDARD.match(name) or ALLOWED.match(name):
        return
    if (folder, name) == ("base", "sys/mman.h"):  # huge pages
        return
    if INTRINSICS.match(name):
        if folder != "simd":
            yield number, f"<{name}> belongs into simd/, the one seam to the vector unit"
        return
    parts = name.split("/")
    if parts[0] != "heed" or len(parts) < 3:
        yield number, f"{name}: headers include Eigen, the standard library and heed/FOLDER/ alone"
    elif parts[1] not in LAYERS:
        yield number, f"{name}: heed/{parts[1]}/ has no layer; give it one in check_rules.py"
    elif folder != parts[1] and LAYERS[parts[1]] >= LAYERS[folder]:
        yield number, f"{folder}/ (layer {LAYERS[folder]}) must not include {name}"
    elif folder == "attention" and parts[1] == "cache" and name != MEETING_POINT:
        yield number, f"attention/ knows a cache as a source of pages: include {MEETING_POINT}"


def check_header(path, text):
    """(line number, fault) of a header; path is relative to include/heed."""
    folder = path.parts[0] if len(path.parts) > 1 else None
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        yield MAX_LINES, f"{len(lines)} lines, {MAX_LINES} at most: cut the header in two"

    opening = OPENING.match(text)
    if not opening:
        yield 1, "open with the SPDX line, /// \\file, what the header is, and #pragma once"
    mark = MARK.search(sentence(opening)) if opening else None
    if folder is None:
        if opening and "public" not in opening[1].lower():
            yield 3, "say in the opening that the header is public"
    elif folder not in LAYERS:
        yield 1, f"{folder}/ has no layer; give it one in check_rules.py"
    elif opening and (not mark or int(mark[1]) != LAYERS[folder]):
        yield 3, f"say in the opening: Layer {LAYERS[folder]}, public|extension|detail."

    for number, line in enumerate(lines, 1):
        if FUNCTION_MACRO.match(line):
            yield number, "a function-like macro: use a function, a concept or if constexpr"
        if "Eigen::internal" in line and folder != "simd":
            yield number, "Eigen::internal belongs into simd/, the one seam to the vector unit"
    for match in BOOL_TEMPLATE.finditer(text):
        line_number = text.count("\n", 0, match.start()) + 1
        yield line_number, "a bool template parameter: use a policy or an enum"

    if folder in LAYERS:
        for number, name in includes(text):
            yield from check_layer(folder, number, name)


def check_umbrella(headers):
    """Public and extension headers that heed.hpp does not reach; headers maps paths to texts."""
    umbrella = "heed/heed.hpp"
    if umbrella not in headers:
        return
    reached, waiting = set(), [umbrella]
    while waiting:
        name = waiting.pop()
        if name in headers and name not in reached:
            reached.add(name)
            waiting += [included for _, included in includes(headers[name])]
    for name, text in sorted(headers.items()):
        opening = OPENING.match(text)
        if opening and name not in reached:
            words = sentence(opening)
            if "detail." not in words and "Not in the umbrella" not in words:
                yield name, 1, f"{umbrella} does not include this header"


def check_text(text):
    """(line number, fault) of any source file."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MAX_COLUMNS:
            yield number, (f"{len(line)} columns, {MAX_COLUMNS} at most: run clang-format, or "
                           "break it by hand")
        if LEFT_OPEN.search(line):
            yield number, "do it, or leave the mark out"


def check(root):
    """All faults under root, as (path, line number, fault)."""
    include = root / "include"
    headers = {str(path.relative_to(include)): path.read_text("utf-8")
               for path in include.rglob("*.hpp")}
    if not headers:
        yield "include", 0, f"no headers under {root}"
    for name, text in sorted(headers.items()):
        for number, fault in check_header(pathlib.Path(name).relative_to("heed"), text):
            yield f"include/{name}", number, fault
    for name, number, fault in check_umbrella(headers):
        yield f"include/{name}", number, fault
    for folder in ("include", "tests", "bench", "examples"):
        paths = (path for path in (root / folder).rglob("*") if path.suffix in SOURCES)
        for path in sorted(paths):
            for number, fault in check_text(path.read_text("utf-8")):
                yield path.relative_to(root), number, fault


if __name__ == "__main__":
    faults = [f"{path}:{number}: {fault}"
              for path, number, fault in check(pathlib.Path(sys.argv[1]))]
    print("\n".join(faults) or "every rule is kept")
    sys.exit(1 if faults else 0)
