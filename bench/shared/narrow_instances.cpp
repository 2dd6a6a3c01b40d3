// SPDX-License-Identifier: MIT
#include "heed/instances/define_narrow.hpp"
