// expect: heed: a mask's check must be `void check(std::string_view where, Index num_heads,
#include "heed/attention/attend.hpp"

struct Checked : heed::CausalMask {
  void check(const heed::MaskExtent&) const {}
};
void call(heed::RowsView<float> rows) { heed::attend(rows, rows, rows, Checked{}, 1.0, rows); }
