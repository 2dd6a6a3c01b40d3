// SPDX-License-Identifier: MIT
/// \file
/// What a benchmark says of options that it does not understand.
#pragma once

#include <string>

#include "shared/quantities.hpp"  // OptionError

namespace heed::test {

/// The message of the OptionError that `parse()` throws.
template <class Parse>
std::string option_error(const Parse& parse) {
  try {
    parse();
  } catch (const bench::OptionError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace heed::test
