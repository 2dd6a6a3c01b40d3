// expect: heed: score needs `apply<T>(packet, site)` and `check`
#include "heed/attention/attend.hpp"

struct NotAScore {
  void check(std::string_view, heed::Index, const heed::MaskExtent&) const {}
};
void call(heed::RowsView<float> rows) {
  heed::attend(rows, rows, rows, heed::NoMask{}, NotAScore{}, rows);
}
