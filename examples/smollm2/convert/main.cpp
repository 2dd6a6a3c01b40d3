// SPDX-License-Identifier: MIT
// Makes other attention variants of a checkpoint: see --help.
#include <charconv>
#include <cstdio>
#include <exception>
#include <string_view>
#include <vector>

#include "conversion.hpp"

namespace {

constexpr const char* usage =
    R"(convert: other attention variants of a grouped-query checkpoint in GGUF form.

  convert kv-heads N IN OUT           N key/value heads: each repeated, or the mean of neighbours;
                                      `all` is one for each query head
  convert latent IN OUT               latent attention that computes the same
  convert latent PAIRS WIDTH IN OUT   PAIRS rotated pairs of columns of each kv head, and a latent
                                      of WIDTH for the other columns and the values: loses much
  convert float IN OUT                the same with weights in F32

smollm2 --model=OUT runs what comes out.
)";

smollm2::Index number(std::string_view text) {
  smollm2::Index value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    throw std::invalid_argument("'" + std::string(text) + "' is no number");
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  const bool latent = !words.empty() && words[0] == "latent";
  const bool heads = words.size() == 4 && words[0] == "kv-heads";
  const bool floats = words.size() == 3 && words[0] == "float";
  if (!heads && !floats && !(latent && (words.size() == 3 || words.size() == 5))) {
    const bool asked = words.size() == 1 && words[0] == "--help";
    std::fputs(usage, asked ? stdout : stderr);
    return asked ? 0 : 2;
  }
  try {
    const smollm2::GgufFile file{std::string(words[words.size() - 2])};
    smollm2::GgufWriter out;
    if (heads)
      smollm2::convert_kv_heads(
          file, words[1] == "all" ? smollm2::num_heads(file) : number(words[1]), out);
    else if (floats)
      smollm2::convert_to_float(file, out);
    else
      smollm2::convert_to_latent(file,
                                 words.size() == 3
                                     ? smollm2::exact_latent(file)
                                     : smollm2::LatentOptions{.rotated_pairs = number(words[1]),
                                                              .latent_dim = number(words[2])},
                                 out);
    out.write(std::string(words.back()));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "convert: %s\n", error.what());
    return 1;
  }
}
