"""torch.compile, so that what is computed depends on what is given alone, and not on what was computed before.

By default the compiler learns as it goes: a second size of batch makes it write code for any size, which then serves
the first size too, in other bits. What a process has seen depends on how many there are and on where the training was
resumed.
"""

from torch import nn

MOST_GRAPHS = 512
"""Of one function's code. Most networks are one function, which takes eight: whole and short micro-batches, in training
and in validation, frozen and not. Where the compiler can't follow a network as a whole, it compiles the function of a
block for each block of that kind."""


def compile_network(network: nn.Module) -> None:
    """Make the network run as compiled code, in place: code of its own for each size of batch, whatever came before.

    A network for which that is never enough ends in torch's FailOnRecompileLimitHit: see ``run.explained``.
    """
    import torch._dynamo  # not on top: the compiler takes seconds to import
    import torch.compiler.config

    # Code kept on disk is laid out for the instructions it was made for, which are not in its key: it gives wrong
    # numbers to a process that has others, by ATEN_CPU_CAPABILITY or since the folder is shared between machines.
    torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
    dynamo = torch._dynamo.config
    dynamo.optimize_ddp = False  # it cuts the network where DistributedDataParallel, of several processes, does
    dynamo.recompile_limit = dynamo.accumulated_recompile_limit = MOST_GRAPHS
    dynamo.fail_on_recompile_limit_hit = True  # or else whatever is new from then on runs uncompiled
    # Deterministic: no choice by measured times. Left alone it is off for the first graph and on for the others, since
    # dynamo restores torch's deterministic mode by a function that sets it. As an option it holds in every thread.
    network.compile(dynamic=False, options={"deterministic": True})
