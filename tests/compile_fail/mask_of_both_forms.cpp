// expect: or the members of PageMask, not both
#include "heed/attention/attend.hpp"

/// Means to leave out keys that CausalMask, whose `visible` it still has, shows.
struct EveryThird : heed::CausalMask {
  heed::KeyRange range(heed::Index row, const heed::MaskExtent& extent) const {
    return visible(row, extent);
  }
  std::uint64_t bits(heed::Index, heed::Index, heed::Index, const heed::MaskExtent&) const {
    return 0x9249249249249249;
  }
  bool varies_by_head() const { return false; }
};
void call(heed::RowsView<float> rows) { heed::attend(rows, rows, rows, EveryThird{}, 1.0, rows); }
