"""Read sets of runs to be compared, each set the runs of one recipe, and check that they can be."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipe.commands.comparing.outcomes import Outcome, files_of, read_outcome
from imgpipe.commands.comparing.revisions import Revision, files_at, matching
from imgpipe.commands.params_file import values_of
from imgpipe.common.errors import InputError, without_secrets
from imgpipe.common.params import load, without_other_choices
from imgpipe.common.progress import counting_where_long

PARAMS = "params.yaml"
SEED = "train.seed"
"""In which the runs of one recipe on one split differ."""
SPLIT_BY = ("prepare.seed", "prepare.fold")
"""In which runs of one recipe on several splits differ."""
ABSENT = "not taken"
"""What stands for the value of a key that a revision does not have, such as those of another choice."""
NO_RESULT = ("runtime.", "plot.")
"""How keys begin that change no prediction."""


@dataclass(frozen=True)
class Run:
    """A revision that trained and tested a model."""

    revision: Revision
    values: dict[str, Any]
    """Of params.yaml, by keys in full; without those of choices that it does not take."""
    outcome: Outcome

    @property
    def name(self) -> str:
        return self.revision.name


@dataclass(frozen=True)
class RunSet:
    """The runs of one recipe."""

    name: str
    """As the user gave it."""
    runs: list[Run]

    @property
    def recipe(self) -> dict[str, Any]:
        """The values that all of the runs have, and that can change a prediction."""
        varied = (SEED, *SPLIT_BY)
        values = self.runs[0].values.items()
        return {key: value for key, value in values if key not in varied and not key.startswith(NO_RESULT)}


def read_sets(names: Sequence[str], split: str) -> list[RunSet]:
    """Read the runs that each name stands for (see ``revisions.matching``), by what they predicted for a split.

    Raises InputError where one is not there, lacks a file, or its files do not go together.
    """
    revisions = [matching(name) for name in names]
    total = sum(map(len, revisions))
    runs = iter(list(counting_where_long("reading", (_read(one, split) for some in revisions for one in some), total)))
    return [RunSet(name, [next(runs) for _ in some]) for name, some in zip(names, revisions, strict=True)]


def _read(name: str, split: str) -> Run:
    with files_at(name, (*files_of(split), PARAMS)) as revision:
        params = load(Path(revision.folder, PARAMS))
        values = {key: _without_secrets(value) for key, value in values_of(without_other_choices(params))}
        return Run(revision, values, read_outcome(name, revision.folder, split))


def _without_secrets(value: Any) -> Any:
    return without_secrets(value) if isinstance(value, str) else value


def check_recipes(sets: Sequence[RunSet]) -> None:
    """Refuse sets that are not each several runs of one recipe.

    Raises InputError where a run is in two sets, a set has one run only, or its runs differ in more than the seed of
    the training and the split.
    """
    seen: dict[str, str] = {}
    for one in sets:
        for run in one.runs:
            if run.name in seen:
                raise InputError(f"the run '{run.name}' is both in '{seen[run.name]}' and in '{one.name}'")
            seen[run.name] = one.name
    for one in sets:
        if len(one.runs) < 2:
            raise InputError(
                f"'{one.name}' is one run, which says nothing of how far runs of its recipe differ; to compare recipes "
                f"give several of each: `dvc exp run --queue -n NAME -S '{SEED}=range(5)'`"
            )
        _check_one_recipe(one)


def _check_one_recipe(one: RunSet) -> None:
    first = one.runs[0]
    at: dict[tuple[Any, object], str] = {}
    for run in one.runs:
        other = different(first.values, run.values)
        other = {key: values for key, values in other.items() if key not in (SEED, *SPLIT_BY)}
        if other:
            key, (value, changed) = next(iter(other.items()))
            raise InputError(
                f"'{one.name}' is not one recipe: {key} is {value} in '{first.name}' and {changed} in '{run.name}'"
                + (f", and {len(other) - 1} more keys differ" if len(other) > 1 else "")
                + f"; the runs of a set may differ in {SEED}, {' and '.join(SPLIT_BY)} alone"
            )
        place = (run.values.get(SEED), run.outcome.content)
        if place in at:
            raise InputError(
                f"'{at[place]}' and '{run.name}' of '{one.name}' both have {SEED} {place[0]}, and are one run "
                "twice; give each another seed"
            )
        at[place] = run.name


def different(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys that can change a prediction and whose values differ, with both, or ABSENT where there is none.

    >>> different({"train.epochs": 3, "train.seed": 0, "plot.dpi": 1}, {"train.epochs": 5, "train.seed": 0})
    {'train.epochs': (3, 5)}
    """
    keys = [key for key in {**a, **b} if not key.startswith(NO_RESULT)]
    values = {key: (a.get(key, ABSENT), b.get(key, ABSENT)) for key in keys}
    return {key: (one, other) for key, (one, other) in values.items() if one != other}
