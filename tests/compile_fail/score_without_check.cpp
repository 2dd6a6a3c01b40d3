// expect: heed: score needs `apply<T>(packet, site)` and `check`
#include "heed/attention/attend.hpp"

struct Unchecked {
  template <class T>
  heed::simd::Packet<T> apply(const heed::simd::Packet<T>& score, const heed::ScoreSite&) const {
    return score;
  }
};
void call(heed::RowsView<float> rows) {
  heed::attend(rows, rows, rows, heed::NoMask{}, Unchecked{}, rows);
}
