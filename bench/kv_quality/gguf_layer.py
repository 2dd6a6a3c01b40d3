#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the attention weights of one layer of a GGUF file, of Llama's architecture, as kv_quality
reads them with --weights. Needs the packages gguf and safetensors of PyPI.

    gguf_layer.py MODEL.gguf LAYER OUT.safetensors
"""
import sys

try:
    import gguf
    import numpy as np
    from safetensors.numpy import save_file
except ModuleNotFoundError as missing:
    sys.exit(f"gguf_layer.py: {missing}: pip install gguf safetensors")


def main(model, layer, out):
    reader = gguf.GGUFReader(model)
    architecture = reader.fields["general.architecture"].contents()
    if architecture != "llama":
        sys.exit(f"{model}: the architecture is {architecture}, not llama")
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def weight(name):
        tensor = tensors.get(f"blk.{layer}.{name}.weight")
        if tensor is None:
            sys.exit(f"{model}: has no tensor blk.{layer}.{name}.weight")
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)

    def apart(rows, heads_field):
        """In GGUF the two rows that RoPE turns together are neighbours; here they are half a head
        apart."""
        heads = reader.fields[f"llama.attention.{heads_field}"].contents()
        by_pair = rows.reshape(heads, -1, 2, rows.shape[1])
        return np.ascontiguousarray(by_pair.swapaxes(1, 2).reshape(rows.shape))

    prefix = f"model.layers.{layer}."
    save_file({
        prefix + "input_layernorm.weight": weight("attn_norm"),
        prefix + "self_attn.q_proj.weight": apart(weight("attn_q"), "head_count"),
        prefix + "self_attn.k_proj.weight": apart(weight("attn_k"), "head_count_kv"),
        prefix + "self_attn.v_proj.weight": weight("attn_v"),
    }, out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
