// SPDX-License-Identifier: MIT
/// \file
/// What is thrown when a file is not what it should be.
#pragma once

#include <stdexcept>

namespace smollm2 {

/// A model file, tokenizer or chat template that cannot be used; the text says what is wrong where.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace smollm2
