// SPDX-License-Identifier: MIT
/// \file
/// The same as instances.cpp for narrow elements: a source file of its own, so that both compile
/// side by side.
#include <heed/instances/define_narrow.hpp>
