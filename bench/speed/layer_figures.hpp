// SPDX-License-Identifier: MIT
/// \file
/// What the whole-layer cases gave, and the Markdown of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "heed/layers/latent_attention.hpp"
#include "speed/report.hpp"

namespace heed::bench {

/// A pass of a layer, and its parts run alone; seconds, each the best of several.
struct LayerResult {
  std::string name;
  Index num_threads;
  double whole, projections, rope, attention;

  /// Of the whole; the parts run alone do not add up to 1: the cache is filled in between, and a
  /// part alone finds its operands in other caches.
  double share(double part) const { return part / whole; }
};

/// MLA's attention, projections left out, on either path; seconds.
struct CrossoverResult {
  Index seqlen_q, cached, num_threads;
  double absorbed, expanded;
  MlaPath chosen;  ///< by the library, of the two
};

/// The least number of new tokens, on so many cached ones, that the library expands. There is one
/// because a latent is wider than a head: absorbed, each pair of tokens takes more FLOPs.
inline Index chosen_crossover(const LatentShape& shape, Index cached) {
  Index seqlen_q = 1;
  while (cheaper_path(shape, seqlen_q, cached + seqlen_q) == MlaPath::absorbed) ++seqlen_q;
  return seqlen_q;
}

/// The seqlen_q at which both paths take the same time: between the last pair of neighbours of
/// which the first is faster absorbed and the second is not, on a straight line; 0 if there is
/// none.
/// \param results  on as many cached tokens and threads, in ascending order of seqlen_q
inline Index measured_crossover(std::span<const CrossoverResult> results) {
  double crossover = 0;
  for (std::size_t i = 1; i < results.size(); ++i) {
    const CrossoverResult &before = results[i - 1], &after = results[i];
    const double lead = before.expanded - before.absorbed, lag = after.absorbed - after.expanded;
    if (lead <= 0 || lag < 0) continue;
    const auto width = static_cast<double>(after.seqlen_q - before.seqlen_q);
    crossover = static_cast<double>(before.seqlen_q) + width * lead / (lead + lag);
  }
  return static_cast<Index>(std::lround(crossover));
}

namespace detail {

/// Cells of neighbouring results that differ only in the number of threads, joined.
template <class Result, class Same, class Cell>
std::string joined_rows(std::span<const Result> results, const Same& same, const Cell& cells_of) {
  std::string text;
  for (std::size_t begin = 0; begin < results.size();) {
    std::vector<std::vector<std::string>> columns;
    std::size_t end = begin;
    for (; end < results.size() && same(results[begin], results[end]); ++end) {
      const std::vector<std::string> cells = cells_of(results[end]);
      columns.resize(cells.size());
      for (std::size_t i = 0; i < cells.size(); ++i) columns[i].push_back(cells[i]);
    }
    std::vector<std::string> row;
    for (const auto& column : columns)
      row.push_back(std::equal(column.begin() + 1, column.end(), column.begin()) ? column[0]
                                                                                 : joined(column));
    text += table_row(row);
    begin = end;
  }
  return text;
}

/// For each number of cached tokens: where the paths cross with each number of threads, and where
/// the library changes over.
inline std::string crossing_sentences(const LatentShape& shape,
                                      std::span<const CrossoverResult> results) {
  std::map<Index, std::map<Index, std::vector<CrossoverResult>>> by_cached;
  for (const CrossoverResult& one : results) by_cached[one.cached][one.num_threads].push_back(one);
  std::string text;
  for (const auto& [cached, by_threads] : by_cached) {
    text += "On " + std::to_string(cached) + " tokens, heed expands from " +
            std::to_string(chosen_crossover(shape, cached)) +
            " new tokens on; expanding takes less time";
    for (const auto& [num_threads, alike] : by_threads) {
      const Index measured = measured_crossover(alike);
      text += (num_threads == by_threads.begin()->first ? " from " : ", from ") +
              (measured > 0 ? "about " + std::to_string(measured) : "none of those measured") +
              " on with " + threads_text(num_threads);
    }
    text += ".\n";
  }
  return text;
}

}  // namespace detail

/// A row per pass; empty if nothing was measured.
inline std::string layers_text(std::span<const LayerResult> results) {
  if (results.empty()) return {};
  using detail::percent;
  return "\n" + detail::table_head({"layer", "ms", "projections", "RoPE", "attention"}) +
         detail::joined_rows(
             results, [](const LayerResult& a, const LayerResult& b) { return a.name == b.name; },
             [](const LayerResult& one) -> std::vector<std::string> {
               return {one.name, detail::three_digits(1e3 * one.whole),
                       percent(one.share(one.projections)), percent(one.share(one.rope)),
                       percent(one.share(one.attention))};
             });
}

/// A row per chunk, and where the paths cross; empty if nothing was measured.
inline std::string crossovers_text(const LatentShape& shape,
                                   std::span<const CrossoverResult> results) {
  if (results.empty()) return {};
  const std::string text =
      "\n" +
      detail::table_head({"new tokens on cached", "absorbed, ms", "expanded, ms", "heed takes"}) +
      detail::joined_rows(
          results,
          [](const CrossoverResult& a, const CrossoverResult& b) {
            return a.seqlen_q == b.seqlen_q && a.cached == b.cached;
          },
          [](const CrossoverResult& one) -> std::vector<std::string> {
            return {std::to_string(one.seqlen_q) + " on " + std::to_string(one.cached),
                    detail::three_digits(1e3 * one.absorbed),
                    detail::three_digits(1e3 * one.expanded),
                    one.chosen == MlaPath::absorbed ? "absorbed" : "expanded"};
          }) +
      "\n";
  return text + detail::crossing_sentences(shape, results);
}

}  // namespace heed::bench
