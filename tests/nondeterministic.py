"""Operators that raise on a GPU where kernels must be deterministic, as torch's own library has them.

Each calls at::Context::alertNotDeterministic with a name. ``names_in`` reads these from the library's machine code, so
that a torch with other ones does not go unnoticed. Nearly all are in the documentation of
torch.use_deterministic_algorithms, where also stands what is deterministic when asked to be, and does not raise:
convolutions, cumsum, and what sorts first, as index_put, index_add, scatter_add and the gradients of gather and of an
embedding do. What is listed here as raising may do so for some arguments only.
"""

import re
import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

ALERT = b"_ZN2at7Context21alertNotDeterministicERKSt17basic_string_viewIcSt11char_traitsIcEE"

OPERATORS = {
    "_bincount_cuda": {"bincount"},  # with weights
    "_histc_cuda with floating point input": {"histc"},
    "adaptive_avg_pool2d_backward_cuda": {"_adaptive_avg_pool2d_backward"},
    "adaptive_avg_pool2d_backward_out_cuda": {"_adaptive_avg_pool2d_backward"},
    "adaptive_avg_pool3d_backward_cuda": {"_adaptive_avg_pool3d_backward"},
    "adaptive_avg_pool3d_backward_out_cuda": {"_adaptive_avg_pool3d_backward", "adaptive_avg_pool3d_backward"},
    "adaptive_max_pool2d_backward_cuda": {"adaptive_max_pool2d_backward"},
    "avg_pool3d_backward_cuda": {"avg_pool3d_backward"},
    "ctc_loss_backward_gpu": {"_ctc_loss_backward"},
    "cudnn_grid_sampler_backward": {"cudnn_grid_sampler_backward"},
    "embedding_bag_backward_cuda_max": {"_embedding_bag_backward", "_embedding_bag_dense_backward"},  # of the maximum
    "fractional_max_pool2d_backward_cuda": {"fractional_max_pool2d_backward"},
    "fractional_max_pool3d_backward_cuda": {"fractional_max_pool3d_backward"},
    "fractional_max_pool3d_backward_out_cuda": {"fractional_max_pool3d_backward"},
    "grid_sampler_2d_backward_cuda": {"grid_sampler_2d_backward"},
    "grid_sampler_3d_backward_cuda": {"grid_sampler_3d_backward"},
    "index_reduce_cuda": {"index_reduce", "index_reduce_"},
    "max_pool3d_with_indices_backward_cuda": {"max_pool3d_with_indices_backward"},
    "max_pool3d_with_indices_backward_out_cuda": {"max_pool3d_with_indices_backward"},
    "max_unpooling2d_forward_out": {"max_unpool2d"},
    "max_unpooling3d_forward_out": {"max_unpool3d"},
    "median CUDA with indices output": {"median", "nanmedian"},  # along an axis
    "nll_loss2d_forward_out_cuda_template": {"nll_loss2d_forward"},
    "reflection_pad1d_backward_out_cuda": {"reflection_pad1d_backward"},
    "reflection_pad3d_backward_out_cuda": {"reflection_pad3d_backward"},
    "replication_pad1d_backward_cuda": {"replication_pad1d_backward"},
    "replication_pad2d_backward_cuda": {"replication_pad2d_backward"},
    "replication_pad2d_backward_out_cuda": {"replication_pad2d_backward"},
    "replication_pad3d_backward_cuda": {"replication_pad3d_backward"},
    "replication_pad3d_backward_out_cuda": {"replication_pad3d_backward"},
    "scatter_cuda_": {"scatter", "scatter_"},
    "scatter_reduce_cuda_kernel": {"scatter_reduce", "scatter_reduce_"},
    "scatter_reduce_cuda_prod_": {"scatter_reduce", "scatter_reduce_"},
    "upsample_bicubic2d_aa_backward_out_cuda": {"_upsample_bicubic2d_aa_backward"},
    "upsample_bicubic2d_backward_out_cuda": {"upsample_bicubic2d_backward"},
    "upsample_bilinear2d_aa_backward_out_cuda": {"_upsample_bilinear2d_aa_backward"},
    "upsample_bilinear2d_backward_out_cuda": {"upsample_bilinear2d_backward"},
    "upsample_linear1d_backward_out_cuda": {"upsample_linear1d_backward"},
    "upsample_trilinear3d_backward_out_cuda": {"upsample_trilinear3d_backward"},
}
"""By the name that libtorch_cuda.so calls it with, the operators that may do so."""

RAISING = set().union(*OPERATORS.values()) | {"put", "put_"}  # these two call it from libtorch_cpu.so


def names_in(library: str) -> set[str]:
    """The names that one of torch's libraries for x86-64 calls alertNotDeterministic with.

    The call goes through an entry of the procedure linkage table, which jumps to where its relocation says; before it
    the address of the name is loaded, relative to the instruction.
    """
    content = np.memmap(Path(torch.__file__).parent / "lib" / library, mode="r", dtype=np.uint8)
    sections = _sections(content)
    strings = bytes(sections[".dynstr"][1])
    (symbol,) = (
        number
        for number, (name, *_) in enumerate(struct.iter_unpack("<IBBHQQ", bytes(sections[".dynsym"][1])))
        if strings.startswith(ALERT + b"\0", name)
    )
    (slot,) = (
        at for at, info, _ in struct.iter_unpack("<QQq", bytes(sections[".rela.plt"][1])) if info >> 32 == symbol
    )
    start, entries = sections[".plt"][0], bytes(sections[".plt"][1])
    (entry,) = (
        start + jump.start()
        for jump in re.finditer(rb"\xff\x25(....)", entries, re.DOTALL)
        if start + jump.end() + _int32(jump[1]) == slot
    )
    start, code = sections[".text"]
    calls = np.flatnonzero(code[:-4] == 0xE8)
    distances = np.lib.stride_tricks.sliding_window_view(code, 4)[calls + 1].copy().view("<i4")[:, 0]
    return {
        _name_before(int(call), start, code, sections[".rodata"])
        for call in calls[start + calls + 5 + distances == entry]
    }


def _sections(content: Bytes) -> dict[str, tuple[int, Bytes]]:
    """Address and bytes of each section, by its name."""
    header = bytes(content[:64])
    (table,), (size, number, names) = struct.unpack_from("<Q", header, 40), struct.unpack_from("<HHH", header, 58)
    rows = [struct.unpack_from("<IIQQQQ", bytes(content[table + i * size :][:40])) for i in range(number)]
    texts = bytes(content[rows[names][4] :][: rows[names][5]])
    return {
        texts[name : texts.index(b"\0", name)].decode(): (address, content[offset : offset + length])
        for name, _, _, address, offset, length in rows
    }


def _name_before(call: int, start: int, code: Bytes, constants: tuple[int, Bytes]) -> str:
    """The last text whose address is loaded before a call."""
    first, near = max(0, call - 160), bytes(code[max(0, call - 160) : call])
    names = []
    for load in re.finditer(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](....)", near, re.DOTALL):
        at = start + first + load.end() + _int32(load[1]) - constants[0]
        if 0 <= at < len(constants[1]):
            names += re.findall(rb"^[ -~]{4,}(?=\0)", bytes(constants[1][at : at + 200]))
    assert names, "a call without a name"
    return str(names[-1].decode())


def _int32(four: bytes) -> int:
    return int(struct.unpack("<i", four)[0])
