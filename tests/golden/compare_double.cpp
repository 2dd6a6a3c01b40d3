// SPDX-License-Identifier: MIT
#include "golden/compare.hpp"

template heed::golden::Report heed::golden::compare<double>(const Case& golden);
