// SPDX-License-Identifier: MIT
#include "golden/compare.hpp"

template heed::golden::Report heed::golden::compare<float>(const Case& golden);
