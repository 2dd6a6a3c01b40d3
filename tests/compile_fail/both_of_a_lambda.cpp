// expect: heed: what is joined by `both` needs `KeyRange visible(
#include "heed/attention/attend.hpp"
#include "heed/policy/mask_element.hpp"

void call(heed::RowsView<float> rows) {
  const auto even = [](heed::Index, heed::Index key) { return key % 2 == 0; };
  heed::attend(rows, rows, rows, heed::both(heed::CausalMask{}, even), 1.0, rows);
}
