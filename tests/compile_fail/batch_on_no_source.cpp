// expect: heed: a sequence's source is a KvCache, a MatrixSource, or has the members of
#include <vector>

#include "heed/attention/attend.hpp"

struct Tokens {
  using Element = float;
  heed::Index seqlen() const { return 0; }
};
void call(const std::vector<heed::AttendSequence<float, Tokens, heed::NoMask>>& sequences) {
  heed::attend_batch(sequences, 1.0);
}
