// expect: heed: compile without -ffast-math (-ffinite-math-only): scores of hidden keys are -inf
#undef __FINITE_MATH_ONLY__
#define __FINITE_MATH_ONLY__ 1  // as -ffast-math does
#include "heed/attention/attend.hpp"
