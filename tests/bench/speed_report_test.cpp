// SPDX-License-Identifier: MIT
/// \file
/// The Markdown of speed --report, on figures that are easy to check by hand.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "speed/report.hpp"

namespace {

using heed::bench::CaseResult;
using heed::bench::Limits;
using heed::bench::Samples;
using heed::bench::SpeedCase;
using heed::bench::Visible;

constexpr double mib = 1 << 20;

/// One query row of 2 heads, 64 keys of width 32 of one head: 2 (32 + 32) 2 64 FLOPs, 4096
/// elements.
SpeedCase decode_case() {
  return {"decode/a", {{1, 64}}, 2, 1, 32, 32, Visible::causal, heed::bench::Kv::full};
}

Limits limits_with(double fma_flops) {
  return {.fma_flops = fma_flops,
          .bf16_flops = std::nullopt,
          .dram_bytes = 16e9,
          .cache_bytes = 64e9,
          .eigen_gemm_flops = 0.5 * fma_flops,
          .blas_flops = std::nullopt};
}

TEST(SpeedCase, CountsWhatIsVisible) {
  SpeedCase c = decode_case();
  EXPECT_EQ(c.flops(), 2 * (32 + 32) * 2 * 64);
  EXPECT_EQ(c.kv_elements(), 64 * (32 + 32));
  c.kv = heed::bench::Kv::latent;  // the value is a part of the key
  EXPECT_EQ(c.kv_elements(), 64 * 32);
  c.sequences = {{3, 5, 0, 0}, {2, 2, 3, 5}};
  EXPECT_EQ(c.rows_q(), 5);
  EXPECT_EQ(c.rows_kv(), 7);
  EXPECT_EQ(c.most_scores(), 15);
  EXPECT_EQ(c.flops(), 2 * (32 + 32) * 2 * (3 + 4 + 5 + 1 + 2));
  EXPECT_EQ(c.seen(c.sequences[0], 0), 3);
  c.visible = Visible::full;
  EXPECT_EQ(c.flops(), 2 * (32 + 32) * 2 * (15 + 4));
}

TEST(SpeedCase, CountsFiveProductsBackward) {
  SpeedCase c = decode_case();
  c.head_dim_v = 16;
  c.pass = heed::bench::Pass::backward;
  EXPECT_EQ(c.flops(), 2 * (3 * 32 + 2 * 16) * 2 * 64);
}

TEST(Roofline, IsTheSlowerOfMemoryAndArithmetic) {
  const SpeedCase c = decode_case();  // 16384 FLOPs; 16384 bytes of float
  EXPECT_DOUBLE_EQ(least_seconds(c, limits_with(1e9), {}, mib), 16384 / 1e9);
  EXPECT_DOUBLE_EQ(least_seconds(c, limits_with(1e15), {}, mib), 16384 / 64e9);
  EXPECT_DOUBLE_EQ(least_seconds(c, limits_with(1e15), {}, 16383), 16384 / 16e9);
  EXPECT_DOUBLE_EQ(least_seconds(c, limits_with(1e15), {.bytes = 2}, 16383), 8192 / 64e9);
}

TEST(Roofline, OfNativeProductsIsTheirOwn) {
  const SpeedCase c = decode_case();
  const heed::bench::KvStorage native{.product_rate = 2}, exact{.product_rate = 1.5};
  Limits limits = limits_with(1e9);
  EXPECT_DOUBLE_EQ(least_seconds(c, limits, native, mib), 16384 / 1e9);  // widened all the same
  limits.bf16_flops = 2e9;
  EXPECT_DOUBLE_EQ(least_seconds(c, limits, native, mib), 16384 / 2e9);
  EXPECT_DOUBLE_EQ(least_seconds(c, limits, exact, mib), 16384 / 1.5e9);
  EXPECT_DOUBLE_EQ(least_seconds(c, limits, {}, mib), 16384 / 1e9);
}

TEST(Limits, AreTheLargerOfTwoMeasurements) {
  Limits one = limits_with(100), other = limits_with(90);
  other.dram_bytes = 17e9;
  other.bf16_flops = 5;
  const Limits both = larger(one, other);
  EXPECT_EQ(both.fma_flops, 100);
  EXPECT_EQ(both.dram_bytes, 17e9);
  EXPECT_EQ(both.bf16_flops, 5);
  EXPECT_FALSE(both.blas_flops);
}

TEST(Report, HasALimitsTableAndARowPerCase) {
  const std::map<heed::Index, Limits> limits{{1, limits_with(100e9)}, {2, limits_with(200e9)}};
  SpeedCase other = decode_case();
  other.name = "decode/b";
  // 16384 FLOPs at 100 GFLOP/s are 0.16384 us, 16384 bytes at 64 GB/s 0.256 us.
  const std::vector<CaseResult> results{
      {decode_case(),
       1,
       {{"heed", {0.512e-6, 1e-6}},
        {"eigen", {1.024e-6}},
        {"peer", {2.048e-6}},
        {"own", {0.512e-6}}}},
      {decode_case(), 2, {{"heed", {0.256e-6}}, {"eigen", {0.128e-6}}}},
      {other, 1, {{"heed", {}, "wrong by 1"}, {"eigen", {1e-3}}, {"own", {}, "wrong by 2"}}},
  };
  EXPECT_EQ(heed::bench::report_text(
                {"Here, today.", {{"peer", {}}, {"own", heed::bench::KvStorage{.bytes = 2}}}, mib},
                limits, results),
            R"(Here, today.

| limit | 1 thread | 2 threads |
| --- | --- | --- |
| f32 FMA peak | 100 GFLOP/s | 200 GFLOP/s |
| DRAM read | 16.0 GB/s | 16.0 GB/s |
| L3 read | 64.0 GB/s | 64.0 GB/s |
| Eigen sgemm 1024^3 | 50.0 GFLOP/s | 100 GFLOP/s |

1 thread / 2 threads, the best of several runs.
`N x`: heed is N times as fast; `N%`: of the roofline.
`int8c` is PerChannel<int8>, `-native` Native<...>.

| case | heed, ms | GFLOP/s | roofline | Eigen | peer, ms | own, ms |
| --- | --- | --- | --- | --- | --- | --- |
| decode/a | 0.0005 / 0.0003 | 32.0 / 64.0 | 50% / 100% | 2.00 x / 0.500 x |)"
            R"( 0.0020 (4.00 x) / - | 0.0005 (1.00 x, 32%) / - |
| decode/b | wrong | - | - | 1.00 ms | - | wrong |
)");
}

TEST(Report, HasATableOfGradients) {
  const std::map<heed::Index, Limits> limits{{1, limits_with(100e9)}, {2, limits_with(200e9)}};
  SpeedCase c = decode_case();
  c.name = "backward/a";
  c.pass = heed::bench::Pass::backward;
  // 40960 FLOPs at 100 GFLOP/s are 0.4096 us; at 200 reading, 0.256 us, takes longer.
  const std::vector<CaseResult> results{
      {c, 1, {{"heed", {0.8192e-6}}, {"eigen", {1.6384e-6}}, {"peer", {4.096e-6}}}},
      {c, 2, {{"heed", {0.4096e-6}}, {"eigen", {}, "wrong by 1"}, {"peer", {4.096e-6}}}},
  };
  const heed::bench::ReportHead head{"", {{"peer", {}}}, mib};
  EXPECT_EQ(heed::bench::backward_text(head, limits, results),
            R"(
| backward alone | heed, ms | GFLOP/s | roofline | Eigen | peer, ms |
| --- | --- | --- | --- | --- | --- |
| backward/a | 0.0008 / 0.0004 | 50.0 / 100 | 50% / 63% | 2.00 x / wrong |)"
            R"( 0.0041 (5.00 x) / 0.0041 (10.0 x) |
)");
  EXPECT_EQ(heed::bench::backward_text(head, limits, {}), "");
}

TEST(Report, ShowsOptionalLimitsWhereTheyAreThere) {
  Limits one = limits_with(100e9);
  one.bf16_flops = 230e9;
  one.blas_flops = 98.04e9;
  const std::string text = heed::bench::report_text({"", {}, mib}, {{4, one}}, {});
  EXPECT_THAT(text, testing::HasSubstr("| limit | 4 threads |"));
  EXPECT_THAT(text, testing::HasSubstr("| bf16 dot-product peak | 230 GFLOP/s |"));
  EXPECT_THAT(text, testing::HasSubstr("| OpenBLAS sgemm 1024^3 | 98.0 GFLOP/s |"));
}

TEST(Samples, AreFoundIfRight) {
  const CaseResult result{
      decode_case(), 1, {{"heed", {1, 2, 3, 4, 5}}, {"peer", {}, "wrong by 1"}}};
  EXPECT_EQ(result.find("heed")->best(), 1);
  EXPECT_EQ(result.find("heed")->median(), 3);
  EXPECT_EQ(result.find("peer"), nullptr);
  EXPECT_EQ(result.find("nobody"), nullptr);
}

}  // namespace
