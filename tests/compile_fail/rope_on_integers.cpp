// expect: heed: RoPE rotates float or double.
#include "heed/rope/rope.hpp"

void call(const heed::Rope& rope, heed::HeadsView<int> heads) { rope.rotate(heads, 0); }
