"""Write a judgement as text for a terminal, as Markdown for a comment on a pull request, or as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from imgpipe.commands.comparing.judging import METRICS, Candidate, Changed, Judgement
from imgpipe.commands.comparing.looks import Looks
from imgpipe.commands.comparing.paired import BETTER, NOT_DISTINGUISHABLE, Difference
from imgpipe.commands.comparing.runs import SEED
from imgpipe.commands.comparing.verdicts import EQUIVALENT, MOST_RUNS, NOT_YET_KNOWN, Needed
from imgpipe.commands.params_file import shown
from imgpipe.common.safe_text import in_markdown, printable

LISTED, LISTED_OF_SEVERAL = 10, 3
"""Images that changed sides, of each direction, shown to people: of one candidate, and of each of several."""
KEYS_LISTED = 12
"""Parameters that differ, shown to people."""


def to_text(judgement: Judgement, looks: Looks | None) -> str:
    """Return what a person reads on a terminal, the verdicts last."""
    blocks = [_tested(judgement)]
    for one in judgement.candidates:
        blocks += [_aligned(_metrics(judgement, one)), "\n".join(_parameters(judgement, one, "  "))]
        blocks += [f"{title}\n{_aligned(rows)}" for title, rows in _changed(judgement, one)]
    blocks += [_account(looks), *(sentence(judgement, one) for one in judgement.candidates), _caution(judgement)]
    return "\n\n".join(filter(None, blocks))


def to_markdown(judgement: Judgement, looks: Looks | None) -> str:
    """Return what a person reads in a comment on a pull request, the verdicts first."""
    blocks = [f"**{in_markdown(sentence(judgement, one))}**" for one in judgement.candidates]
    blocks += [in_markdown(text) for text in (_tested(judgement), _account(looks), _caution(judgement))]
    for one in judgement.candidates:
        first, *rest = map(in_markdown, _parameters(judgement, one, ""))
        blocks += [
            _table(_metrics(judgement, one)),
            "\n".join([f"{first}\n" if rest else first, *(f"- {k}" for k in rest)]),
        ]
        blocks += [f"{in_markdown(title)}\n\n{_table(rows)}" for title, rows in _changed(judgement, one)]
    return "\n\n".join(filter(None, blocks))


def to_json(judgement: Judgement, looks: Looks | None) -> str:
    """Return everything as JSON: numbers unrounded, and all images that changed sides."""
    first = judgement.tested[0]
    return json.dumps(
        {
            "split": judgement.split,
            "judges": "models" if judgement.of_models else "recipes",
            "metric": judgement.metric,
            "margin": judgement.margin,
            "splits": len(judgement.tested),
            "images": [len(on.actual) for on in judgement.tested],
            "groups": [int(on.groups.max()) + 1 if on.in_groups else None for on in judgement.tested],
            "classes": len(first.reference.classes),
            "sets": [
                {
                    "name": one.name,
                    "runs": [{"name": run.name, "commit": run.revision.commit} for run in one.runs],
                    "metrics": {metric: judgement.values(number, metric) for metric in METRICS},
                }
                for number, one in enumerate(judgement.sets)
            ],
            "candidates": [_as_json(one) for one in judgement.candidates],
            "test_split_looks": asdict(looks) if looks else None,
        },
        indent=2,
        ensure_ascii=False,
    )


def _as_json(one: Candidate) -> dict[str, Any]:
    estimates = {
        metric: {
            "base": estimate.a,
            "candidate": estimate.b,
            "difference": estimate.difference,
            "low": estimate.interval[0],
            "high": estimate.interval[1],
            "p_value": estimate.p_value,
            "standard_error": estimate.standard_error,
            "degrees_of_freedom": estimate.degrees,
        }
        for metric, estimate in one.estimates.items()
    }
    return {
        "name": one.name,
        **asdict(one.verdict),
        "estimates": estimates,
        "models": asdict(one.models) if one.models else None,
        "needed": asdict(one.needed) if one.needed else None,
        "parameters": {key: {"base": values[0], "candidate": values[1]} for key, values in one.parameters.items()},
        "changed": [asdict(image) for image in one.changed],
    }


def sentence(judgement: Judgement, one: Candidate) -> str:
    """Return the verdict on a candidate in a sentence or two."""
    base, name, verdict = judgement.label(0), judgement.label(one.number), one.verdict.verdict
    if one.models:
        m = one.models.metrics["accuracy"]
        than = "from" if verdict == NOT_DISTINGUISHABLE else "than"
        luck = " Both are of one recipe, so it is luck of the training." if {*one.parameters} == {SEED} else ""
        return (
            f"The model {name} is {verdict} {than} the model {base} in accuracy "
            f"({_span(m.difference, m.low, m.high)}, p = {one.verdict.p_value:.2g}), on images drawn like these. "
            f"That says nothing of their recipes, which takes several runs of each.{luck}"
        )
    metric = judgement.metric.replace("_", " ")
    estimate = one.estimates[judgement.metric]
    span = _span(estimate.difference, *estimate.interval)
    if verdict == EQUIVALENT:
        return (
            f"{name} is equivalent to {base} in {metric} within {judgement.margin} ({span}; "
            f"two one-sided tests: p = {one.verdict.p_outside_margin:.2g})."
        )
    known = f"({span}, p = {one.verdict.p_value:.2g})"
    if verdict == NOT_YET_KNOWN:
        return (
            f"It is not yet known whether {name} is better or worse than {base} in {metric} {known}. "
            f"{_found_so_far(judgement, one)}{_to_settle(judgement, one.needed)}"
        )
    others = "splits of the data" if len(judgement.tested) > 1 else "training seeds and other images drawn like these"
    return f"{name} is {verdict} than {base} in {metric} {known}, and so for other {others}."


def _span(difference: float, low: float, high: float) -> str:
    return f"{difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"


def _found_so_far(judgement: Judgement, one: Candidate) -> str:
    if len(judgement.tested) > 1:
        what = f"{len(judgement.tested)} splits"
    else:
        counts = {len(judgement.sets[number].runs) for number in (0, one.number)}
        what = f"{' and '.join(map(str, sorted(counts)))} runs a side"
    return f"With {what} a true difference of {one.verdict.detectable:.4f} is found 4 times in 5."


def _to_settle(judgement: Judgement, needed: Needed | None) -> str:
    """Return what it would take to know, as a further sentence."""
    if needed is None:
        return ""
    runs = "splits of the data" if len(judgement.tested) > 1 else "runs a side"
    if needed.equivalence:
        aim = f" To show as often that they are equivalent within {needed.difference}, if they are,"
    else:
        aim = f" To find one of {needed.difference:.4f}, as seen here, as often"
    if needed.runs:
        return f"{aim} takes some {needed.runs} {runs}, {needed.runs - needed.have} more than now."
    if needed.images:
        unit = "groups" if judgement.tested[0].in_groups else "images"
        return f"{aim} takes some {needed.images:,} {unit} in the {judgement.split} split; no number of runs is enough."
    return f"{aim} takes more than {MOST_RUNS} {runs}."


def _metrics(judgement: Judgement, one: Candidate) -> list[list[str]]:
    """Return the table of the metrics of the base and a candidate, by rows, that which is judged by marked so."""
    rows = [["", judgement.label(0), judgement.label(one.number), "difference", "95 % interval"]]
    found = one.models.metrics if one.models else one.estimates
    judged = "accuracy" if one.models else judgement.metric
    for name, m in found.items():
        low, high = (m.low, m.high) if isinstance(m, Difference) else m.interval
        marks = [*(["judged by"] if name == judged else []), *(["lower is better"] if name == "loss" else [])]
        title = f"{name} ({', '.join(marks)})" if marks else name
        rows.append([title, f"{m.a:.4f}", f"{m.b:.4f}", f"{m.difference:+.4f}", f"{low:+.4f} to {high:+.4f}"])
    return rows


def _parameters(judgement: Judgement, one: Candidate, indent: str) -> list[str]:
    """Say which parameters differ: a title and a line for each, or one sentence."""
    if {*one.parameters} <= {SEED}:
        return [f"Nothing but the seed differs: {judgement.label(one.number)} and {judgement.label(0)} are one recipe."]
    lines = [printable(f"{indent}{key}: {shown(a)} -> {shown(b)}") for key, (a, b) in one.parameters.items()]
    if len(lines) > KEYS_LISTED:
        lines[KEYS_LISTED:] = [f"{indent}and {len(lines) - KEYS_LISTED} more (--json has all)"]
    return ["Parameters that differ:", *lines]


def _tested(judgement: Judgement) -> str:
    """Say what was tested on what."""
    first, splits = judgement.tested[0], len(judgement.tested)
    if splits > 1:
        said = f"On the {judgement.split} images of {splits} splits of the data: "
    else:
        groups = f" in {int(first.groups.max()) + 1} groups" if first.in_groups else ""
        said = f"On {len(first.actual)} {judgement.split} images{groups}: "
    named = [
        judgement.label(number) + (f" = {one.name}" if judgement.label(number) != one.name else "")
        for number, one in enumerate(judgement.sets)
    ]
    counts = [_count(len(one.runs), "run") for one in judgement.sets]
    said += "; ".join(f"{name}, {count}" for name, count in zip(named, counts, strict=True)) + "."
    for one in judgement.candidates:
        if m := one.models:
            test = "an exact test by groups" if first.in_groups else "McNemar's exact test"
            said += (
                f"\n{m.only_b_right} images are right in {judgement.label(one.number)} only and {m.only_a_right} in "
                f"{judgement.label(0)} only ({test}: p = {m.p_value:.2g}); the predictions differ on "
                f"{m.predictions_differ}."
            )
    return said


def _account(looks: Looks | None) -> str:
    """Say how often the test split has been tested on."""
    if looks is None:
        return ""
    said = (
        f"Models tested on this test split so far, these among them: {looks.models} (in "
        f"{_count(looks.experiments, 'experiment')} and {_count(looks.commits, 'commit')})."
    )
    if looks.unknown:
        said += (
            f" Of {looks.unknown} more experiments or commits that can't be told: DVC's cache has lost their images."
        )
    return f"{said} The p-values do not allow for choices made by earlier tests."


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _caution(judgement: Judgement) -> str:
    """Warn of what several candidates do to the best of them."""
    count = len(judgement.candidates)
    if count < 2:
        return ""
    said = f"Verdicts and p-values are corrected for {count} candidates (Holm); each interval is for itself."
    if sum(one.verdict.verdict == BETTER for one in judgement.candidates) and judgement.split == "val":
        said += " The accuracy of the best of several is optimistic: test that one, once, with --test."
    return said


def _changed(judgement: Judgement, one: Candidate) -> list[tuple[str, list[list[str]]]]:
    """Return the images that one of the two is more often right on, as a title and a table, where there are any."""
    listed, tables = LISTED if len(judgement.candidates) == 1 else LISTED_OF_SEVERAL, []
    base, candidate = judgement.label(0), judgement.label(one.number)
    for name, images in (
        (base, [image for image in one.changed if image.gained < 0]),
        (candidate, [image for image in one.changed if image.gained > 0]),
    ):
        title = f"Right in {name} only" if one.models else f"Images on which {name} is right more often"
        if len(images) > listed:
            title += f", the {listed} of {len(images)} that changed most (--json has all)"
        rows = [["file", "actual", base, candidate]]
        rows += [[image.file, image.actual, *_said(image, one)] for image in images[:listed]]
        if images:
            tables.append((f"{title}:", rows))
    return tables


def _said(image: Changed, one: Candidate) -> list[str]:
    """Return what the base and a candidate say of an image: models the class, recipes how many runs are right."""
    if one.models:
        return list(image.predicted)
    return [
        f"{right} of {runs} right" + (f", else {said}" if said != image.actual else "")
        for right, runs, said in zip(image.right, image.runs, image.predicted, strict=True)
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Set columns two spaces apart, the first to the left, the others to the right."""
    rows = [list(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)] for row in rows)
    return "\n".join("  ".join([row[0].ljust(widths[0]), *cells]) for row, cells in zip(rows, lines, strict=True))


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    header, *body = ("| " + " | ".join(map(in_markdown, row)) + " |" for row in rows)
    return "\n".join([header, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])
