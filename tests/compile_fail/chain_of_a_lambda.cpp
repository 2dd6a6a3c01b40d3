// expect: heed: what is chained needs `apply<T>(packet, site)` and `check`
#include "heed/attention/attend.hpp"

void call(heed::RowsView<float> rows) {
  const auto halved = [](float score, heed::Index, heed::Index, heed::Index) { return score / 2; };
  heed::attend(rows, rows, rows, heed::NoMask{}, heed::chain(0.5, halved), rows);
}
