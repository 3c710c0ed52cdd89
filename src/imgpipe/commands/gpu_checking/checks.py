"""The checks: what each asks of its parts, and how it judges the answers. No torch is imported here.

A check is a function of the machine and of a function that shows what is done at the moment. To add one, write it, and
a line in CHECKS.
"""

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

from imgpipe.commands.capacity import gib
from imgpipe.commands.gpu_checking.failures import failures
from imgpipe.commands.gpu_checking.launching import PartError, Say, within
from imgpipe.commands.gpu_checking.outcome import Facts, Name, Outcome, Status, judged
from imgpipe.commands.gpu_checking.plan import Machine, Scale
from imgpipe.common.wording import counted

Check = Callable[[Machine, Say], Outcome]

REPORT = "please report it with the file that --json writes"
ONE = "there is one process, and nothing to exchange"


def facts(machine: Machine, say: Say) -> Outcome:
    """Name what there is to compute with. Fails where torch can't use GPUs, or there are too few."""
    found = machine.ask("facts", machine.job("facts", {}, processes=1, machines=1), say)[0]
    if machine.device == "cpu":
        text = f"torch {found['torch']} on {counted(found['cores'], 'core')}, {_in_processes(machine)} by Gloo"
        return Outcome(Status.PASSED, text, found=found)
    return judge_gpus(found, machine)


def judge_gpus(found: Facts, machine: Machine) -> Outcome:
    """Judge what the part ``facts`` found on a machine that is to have GPUs."""
    machine = with_processes(machine, found)
    built = f"HIP {found['hip']}" if found["hip"] else f"CUDA {found['cuda']}"
    if not found["gpus"]:
        why = found["problem"] or "it sees no GPU"
        remedy = "imgpipe doctor says more; nvidia-smi shows driver and GPUs; --device cpu checks what needs no GPU"
        return Outcome(Status.FAILED, f"torch {found['torch']} can't use a GPU: {why}", remedy, found)
    if len(found["gpus"]) < machine.processes:
        text = f"{counted(machine.processes, 'process')} need a GPU each, and there are {len(found['gpus'])}"
        return Outcome(Status.FAILED, text, f"--processes {len(found['gpus'])} or fewer, a power of two", found)
    used = found["gpus"][: machine.processes]
    kinds = {gpu["name"]: sum(other["name"] == gpu["name"] for other in used) for gpu in used}
    named = ", ".join(f"{number} x {name}" for name, number in kinds.items())
    text = (
        f"{named}, {gib(used[0]['total'])} each, torch {found['torch']}, {built}, cuDNN {found['cudnn']}, "
        f"NCCL {found['nccl']}, {counted(found['cores'], 'core')}, {_in_processes(machine)}"
    )
    return Outcome(Status.PASSED, text, found=found)


def with_processes(machine: Machine, found: Facts) -> Machine:
    """Return the machine with a process for each GPU, a power of two, unless the number of processes is given."""
    fitting = [2**i for i in range(20) if 2**i <= len(found["gpus"])]
    return machine if machine.processes else replace(machine, processes=max(fitting, default=1))


def _in_processes(machine: Machine) -> str:
    each = counted(machine.processes, "process")
    return f"{each} on each of {machine.machines} machines" if machine.machines > 1 else each


def operators(machine: Machine, say: Say) -> Outcome:
    """Step many networks twice. Fails where an operator refuses to be deterministic, or where the steps differ."""
    sizes = machine.sizes
    settings = {"networks": sizes.networks, "scale": sizes.operators}
    found = machine.ask("operators", machine.job("operators", settings, processes=1, machines=1), say)[0]
    problems = [f"{name}: {one['problem']}" for name, one in found.items() if "problem" in one]
    passed = f"a step of {len(found)} networks in {sizes.operators.precision}, twice: the same bits, no random operator"
    return judged(problems, passed, f"train other networks here; {REPORT}", found)


def syncs(machine: Machine, say: Say) -> Outcome:
    """Watch steps in which nothing may wait for the GPU. Fails where one does."""
    if machine.device == "cpu":
        return Outcome(Status.LEFT_OUT, "there is no GPU that a step could wait for")
    alone = machine.sizes.alone.in_parts(machine.parts)
    scales = {name: replace(alone, precision=name) for name in ("bf16", "fp16")}
    found = machine.ask("syncs", machine.everywhere("syncs", {"scales": scales}), say, launch=10)[0]
    return judge_syncs(found)


def judge_syncs(found: Facts) -> Outcome:
    """Judge how many steps torch watched."""
    ways = ", ".join(f"{steps} steps in {name}" for name, steps in found["steps"].items())
    return Outcome(Status.PASSED, f"{ways}: none waits for the GPU", found=found)


def cards(machine: Machine, say: Say) -> Outcome:
    """Train on each card alone. Fails where one ends in other bits than the first."""
    if machine.world == 1:
        return Outcome(Status.LEFT_OUT, "there is one process, and nothing to compare it with")
    settings = {"scale": machine.sizes.alone}
    found = machine.ask("cards", machine.everywhere("alike", settings), say, launch=20)[0]
    problems = [
        f"{found['cards'][int(rank)]} differs from the first, {said}" for rank, said in found["differing"].items()
    ]
    kinds = {card.rpartition("(")[2].partition(",")[0] for card in found["cards"]}
    remedy = (
        "train on equal GPUs: CUDA_VISIBLE_DEVICES chooses"
        if machine.device == "cuda" and len(kinds) > 1
        else "run it again; where it is the same card, take it out (CUDA_VISIBLE_DEVICES) and test its memory"
    )
    passed = f"{machine.sizes.alone.steps} steps, each of {machine.world} alone: the same bits"
    return judged(problems, passed, remedy, found)


def bits(machine: Machine, say: Say) -> Outcome:
    """Train on 1, 2, 4, ... processes, each going on where those before stopped. Fails where one ends in other bits."""
    numbers = [1, *(2**i for i in range(1, 20) if 2**i <= machine.processes)]
    launches = [(number, 1) for number in numbers]
    launches += [(machine.processes, machine.machines)] if machine.machines > 1 else []
    launches = launches if len(launches) > 1 else launches * 2
    folders = [machine.folder / f"bits-{i}" for i in range(len(launches))]
    found: Facts = {}
    problems = []
    for i, (processes, machines) in enumerate(launches):
        these = counted(processes * machines, "process") + (f" on {machines} machines" if machines > 1 else "")
        settings = {
            "scales": machine.ways,
            "reference": str(machine.folder / "reference"),
            "resumed": str(folders[i - 1] / "left") if i else None,
            "left": str(folders[i] / "left"),
            "leave": i < len(launches) - 1,
        }
        job = machine.job("bits", settings, processes=processes, machines=machines)
        answer = machine.ask(f"bits-{i}", job, within(these, say), launch=30 + i)[0]
        found[f"{i + 1}: {these}"] = answer
        problems += [f"{these}, {name}: {said}" for name, way in answer.items() for said in way["differing"]]
        unsaved = [name for name, way in answer.items() if i and way["resumed"] is None]
        problems += [f"{these}, {name}: those before left no checkpoint" for name in unsaved]
    counts = ", ".join(str(processes * machines) for processes, machines in launches)
    on = f"on {counts} processes, each resumed by the next" if machine.world > 1 else "on 1 process, resumed by another"
    passed = f"{', '.join(machine.ways)}; {on}: the same bits"
    return judged(problems, passed, f"runtime.processes: 1 does without; {REPORT}", found)


def exchange(machine: Machine, say: Say) -> Outcome:
    """Sum tensors over the processes. Fails where a sum is not that of the tree to the bit."""
    if machine.world == 1:
        return Outcome(Status.LEFT_OUT, ONE)
    sizes = machine.sizes
    settings = {"lengths": sizes.lengths, "megabytes": sizes.megabytes}
    found = machine.ask("exchange", machine.everywhere("exchange", settings), say, launch=40)[0]
    problems = [f"the sum of {int(length):,} numbers is wrong: {said}" for length, said in found["wrong"].items()]
    rates = ", ".join(
        f"{size} MB {rate['ours']:.3g} GB/s (all_reduce {rate['all_reduce']:.3g})"
        for size, rate in found["gigabytes_per_second"].items()
    )
    passed = f"sums over {machine.world} processes are those of the tree to the bit; {rates}"
    return judged(problems, passed, f"runtime.processes: 1 does without; {REPORT}", found)


def speed(machine: Machine, say: Say) -> Outcome:
    """Time steps beside a plain loop's. Fails where ours take more than so many times as long."""
    sizes, world = machine.sizes, machine.world
    scale = sizes.speed.in_parts(world)
    settings = {"scale": scale, "steps": sizes.speed_steps}
    found = machine.ask("speed", machine.everywhere("speed", settings), say, launch=50)[0]
    return judge_speed(found, scale, sizes.most_ratio, alone=world == 1)


def judge_speed(found: Facts, scale: Scale, most: float, *, alone: bool) -> Outcome:
    """Judge the times. most: times a plain loop's seconds that ours may take."""
    rates = {name: sorted(of_rounds)[len(of_rounds) // 2] for name, of_rounds in found["images_per_second"].items()}
    plain = "a plain loop" if alone else "plain DistributedDataParallel"
    text = (
        f"{scale.network} at {scale.side} pixels in {scale.precision}: {rates['ours']:,.0f} images/s from "
        f"memory, {found['ratio']:.2f} times the time of {plain} ({rates['plain loop']:,.0f} images/s); "
        f"{rates['ours with the loader']:,.0f} images/s with the loader"
    )
    if found["ratio"] > most:
        remedy = f"at most {most:g} times is right; see that nothing else uses the GPUs, and run it again; {REPORT}"
        return Outcome(Status.FAILED, text, remedy, found)
    waits = rates["ours with the loader"] < 0.9 * rates["ours"]
    advice = (
        f"images come too slowly for it from {counted(found['threads'], 'thread')}: give more cores" if waits else None
    )
    return Outcome(Status.PASSED, text, advice, found)


CHECKS: dict[Name, Check] = {
    Name.FACTS: facts,
    Name.OPERATORS: operators,
    Name.SYNCS: syncs,
    Name.CARDS: cards,
    Name.BITS: bits,
    Name.EXCHANGE: exchange,
    Name.SPEED: speed,
    Name.FAILURES: failures,
}


def run(name: Name, machine: Machine, say: Say) -> tuple[Outcome, float]:
    """Run a check. Returns its outcome, and the seconds that it took; a part without an answer has failed."""
    start = perf_counter()
    try:
        outcome = CHECKS[name](machine, say)
    except PartError as error:
        outcome = Outcome(Status.FAILED, str(error), REPORT, {"messages": error.messages})
    return outcome, perf_counter() - start
