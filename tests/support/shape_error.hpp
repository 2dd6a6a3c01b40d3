// SPDX-License-Identifier: MIT
/// \file
/// The check that a call refuses an argument and says which.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "heed/base/error.hpp"  // ShapeError

namespace heed::test {

/// Fails unless `call()` throws a ShapeError whose message contains all `words`: the function, the
/// argument with its axes, what was found, what was expected.
template <class Call>
void expect_shape_error(std::initializer_list<std::string_view> words, const Call& call) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown; expected a ShapeError about " << *words.begin();
  } catch (const ShapeError& error) {
    for (const std::string_view part : words)
      EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos)
          << '"' << part << "\" is not in the message:\n"
          << error.what();
  }
}

}  // namespace heed::test
