// SPDX-License-Identifier: MIT
/// \file
/// What all tests share of heed, compiled once: the parts that depend on the element type alone.
#include <heed/instances/define.hpp>
