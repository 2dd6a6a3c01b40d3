"""Each rule of check_rules.py finds the fault it is for, and finds none in a good header."""

import pathlib
import unittest

import check_rules

GOOD = """// SPDX-License-Identifier: MIT
/// \\file
/// A kernel. Layer 5,
/// public.
#pragma once

#include <unsupported/Eigen/CXX11/ThreadPool>
#include <vector>

#include "heed/attention/schedule.hpp"
#include "heed/base/views.hpp"
#include "heed/cache/page.hpp"
template <class T>
HeadsView<const bool> visible();
"""


def faults(text, path="attention/attend.hpp"):
    return [fault for _, fault in check_rules.check_header(pathlib.Path(path), text)]


class Rules(unittest.TestCase):
    def assert_fault(self, words, text, path="attention/attend.hpp"):
        found = faults(text, path)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def test_good_header(self):
        self.assertEqual(faults(GOOD), [])

    def test_opening(self):
        self.assert_fault("open with", GOOD.replace("// SPDX", "//SPDX"))
        self.assert_fault("Layer 5", GOOD.replace("Layer 5", "Layer 4"))
        self.assert_fault("Layer 5", GOOD.replace("public", "private"))

    def test_layers(self):
        self.assert_fault("must not include", GOOD + '#include "heed/layers/linear.hpp"\n')
        self.assert_fault("source of pages", GOOD + '#include "heed/cache/kv_cache.hpp"\n')
        self.assert_fault("alone", GOOD + "#include <gtest/gtest.h>\n")
        self.assert_fault("no layer", GOOD + '#include "heed/misc/tools.hpp"\n')
        rope = GOOD.split("\n#include")[0].replace("Layer 5", "Layer 2")
        sideways = rope + '\n#include "heed/policy/mask.hpp"\n'
        self.assert_fault("must not include", sideways, "rope/rope.hpp")

    def test_the_seam(self):
        self.assert_fault("simd/", GOOD + "#include <immintrin.h>\n")
        self.assert_fault("simd/", GOOD + "namespace ei = Eigen::internal;\n")

    def test_size(self):
        self.assert_fault("300 at most", GOOD + "\n" * 300)

    def test_language(self):
        self.assert_fault("function-like macro", GOOD + "# define HEED_MAX(a, b) a\n")
        self.assertEqual(faults(GOOD + "#define HEED_FLAG (1)\n"), [])
        self.assert_fault("bool template", GOOD + "template <class T,\n          bool causal>\n")

    def test_umbrella(self):
        headers = {"heed/heed.hpp": '#include "heed/attention/attend.hpp"\n',
                   "heed/attention/attend.hpp": GOOD,
                   "heed/attention/schedule.hpp": GOOD}
        self.assertEqual(list(check_rules.check_umbrella(headers)), [])
        headers["heed/cache/kv_cache.hpp"] = GOOD
        headers["heed/cache/pool.hpp"] = GOOD.replace("public.", "detail.")
        headers["heed/base/pool.hpp"] = GOOD.replace("public.", "public. Not in the umbrella.")
        self.assertEqual([name for name, _, _ in check_rules.check_umbrella(headers)],
                         ["heed/cache/kv_cache.hpp"])

    def test_any_text(self):
        self.assertEqual(len(list(check_rules.check_text("x" * 101))), 1)
        self.assertEqual(list(check_rules.check_text("x" * 100)), [])
        self.assertEqual(len(list(check_rules.check_text("// TO" + "DO: later"))), 1)


if __name__ == "__main__":
    unittest.main()
