// SPDX-License-Identifier: MIT
/// \file
/// heed, attention kernels for the CPU: every public header but cache/kv_file.hpp,
/// base/thread_pool.hpp and instances/, which you include when you need them. Public.
///
///     base/       sizes, shapes, views, errors, executors, scratch
///     simd/       the seam to the vector unit
///     policy/     masks and scores
///     rope/       rotary position embedding
///     softmax/    the scaled-softmax core and its mergeable state
///     cache/      the KV cache, full or latent, and what it costs
///     attention/  attend, attend_backward and merge
///     layers/     GroupedQueryAttention (MHA, GQA, MQA) and MultiHeadLatentAttention
#pragma once

#include "heed/attention/attend.hpp"
#include "heed/attention/backward.hpp"
#include "heed/attention/merge.hpp"
#include "heed/base/element.hpp"
#include "heed/cache/kv_bytes.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"
#include "heed/layers/multi_head_latent_attention.hpp"
#include "heed/policy/mask.hpp"
#include "heed/policy/mask_element.hpp"
#include "heed/policy/score.hpp"
#include "heed/policy/score_chain.hpp"
#include "heed/rope/rope.hpp"
