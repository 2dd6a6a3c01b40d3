// expect: heed: RoPE rotates in place, so it needs a view of elements it may write
#include "heed/rope/rope.hpp"

void call(const heed::Rope& rope, heed::HeadsView<const float> heads) { rope.rotate(heads, 0); }
