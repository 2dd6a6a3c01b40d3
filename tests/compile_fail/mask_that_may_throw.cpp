// expect: heed: mask needs `KeyRange visible(Index q_row, const MaskExtent& extent) const noexcept`
#include "heed/attention/attend.hpp"

struct Throwing {
  heed::KeyRange visible(heed::Index, const heed::MaskExtent&) const { return {0, 1}; }
};
void call(heed::RowsView<float> rows) { heed::attend(rows, rows, rows, Throwing{}, 1.0, rows); }
