// expect: heed: mask needs `KeyRange visible(Index q_row, const MaskExtent& extent) const`
#include "heed/attention/attend.hpp"

struct NotAMask {
  heed::KeyRange visble(heed::Index, const heed::MaskExtent&) const { return {0, 1}; }
};
void call(heed::RowsView<float> rows) { heed::attend(rows, rows, rows, NotAMask{}, 1.0, rows); }
