"""Write a judgement as text for a terminal, as Markdown for a comment on a pull request, or as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from imgpipe.commands.comparing.judging import METRICS, Candidate, Changed, Judgement
from imgpipe.commands.comparing.looks import Looks
from imgpipe.commands.comparing.paired import BETTER, NOT_DISTINGUISHABLE
from imgpipe.commands.comparing.verdicts import EQUIVALENT, MOST_RUNS, NOT_YET_KNOWN, Needed
from imgpipe.commands.params_file import shown

LISTED, LISTED_OF_SEVERAL = 10, 3
"""Images that changed sides, of each direction, shown to people: of one candidate, and of each of several."""
KEYS_LISTED = 12
"""Parameters that differ, shown to people."""


def to_text(judgement: Judgement, looks: Looks | None) -> str:
    """Return what a person reads on a terminal, the verdicts last."""
    blocks = []
    for one in judgement.candidates:
        blocks += [_aligned(_metrics(judgement, one)), _parameters(judgement, one)]
        blocks += [f"{title}\n{_aligned(rows)}" for title, rows in _changed(judgement, one)]
    blocks += [_tested(judgement, looks)]
    blocks += [sentence(judgement, one) for one in judgement.candidates]
    return "\n\n".join(filter(None, [*blocks, _caution(judgement)]))


def to_markdown(judgement: Judgement, looks: Looks | None) -> str:
    """Return what a person reads in a comment on a pull request, the verdicts first."""
    blocks = [f"**{_escaped(sentence(judgement, one))}**" for one in judgement.candidates]
    for one in judgement.candidates:
        blocks += [_table(_metrics(judgement, one)), _escaped(_parameters(judgement, one))]
        blocks += [f"{_escaped(title)}\n\n{_table(rows)}" for title, rows in _changed(judgement, one)]
    blocks += [_escaped(_tested(judgement, looks)), _escaped(_caution(judgement))]
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
    base, verdict = judgement.base, one.verdict.verdict
    metric = judgement.metric.replace("_", " ")
    if one.models:
        than = "from" if verdict == NOT_DISTINGUISHABLE else "than"
        return (
            f"{one.name} is {verdict} {than} {base}: this model than that one, on images of this kind. A single run of "
            "each says nothing of their recipes."
        )
    estimate = one.estimates[judgement.metric]
    low, high = estimate.interval
    span = f"{estimate.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, p = {one.verdict.p_value:.2g}"
    if verdict == EQUIVALENT:
        return (
            f"{one.name} is equivalent to {base} within {judgement.margin}: in {metric} ({span}; "
            f"p = {one.verdict.p_outside_margin:.2g} of a difference as large as that)."
        )
    over = "splits of the data" if len(judgement.tested) > 1 else "training seeds and images of this kind"
    if verdict == NOT_YET_KNOWN:
        return (
            f"It is not yet known whether {one.name} is better or worse than {base} in {metric} ({span}). "
            f"{_would_have_been_found(one)}{_to_settle(judgement, one.needed)}"
        )
    return f"{one.name} is {verdict} than {base} in {metric} ({span}), over {over}."


def _would_have_been_found(one: Candidate) -> str:
    return f"A true difference of {one.verdict.detectable:.4f} would have been found in 4 of 5 such comparisons."


def _to_settle(judgement: Judgement, needed: Needed | None) -> str:
    """Return what it would take to know, as a further sentence."""
    if needed is None:
        return ""
    runs = "splits of the data" if len(judgement.tested) > 1 else "runs of each recipe"
    if needed.equivalence:
        aim = f" To show that they are equivalent within {needed.difference}, if they are,"
    else:
        aim = f" If the true difference is what it seems, {needed.difference:.4f}, to find it"
    if needed.runs:
        return f"{aim} takes some {needed.runs} {runs}, {needed.runs - needed.have} more than now (4 times in 5)."
    if needed.images:
        unit = "groups" if judgement.tested[0].in_groups else "images"
        return f"{aim} takes some {needed.images:,} {unit} in the {judgement.split} split; no number of runs is enough."
    return f"{aim} takes more than {MOST_RUNS} {runs}."


def _metrics(judgement: Judgement, one: Candidate) -> list[list[str]]:
    """Return the table of the metrics of the base and a candidate, by rows."""
    rows = [["", judgement.base, one.name, "difference", "95 % interval"]]
    if one.models:
        return rows + [
            [name, f"{m.a:.4f}", f"{m.b:.4f}", f"{m.difference:+.4f}", f"{m.low:+.4f} to {m.high:+.4f}"]
            for name, m in one.models.metrics.items()
        ]
    for name, e in one.estimates.items():
        low, high = e.interval
        rows.append([name, f"{e.a:.4f}", f"{e.b:.4f}", f"{e.difference:+.4f}", f"{low:+.4f} to {high:+.4f}"])
    return rows


def _parameters(judgement: Judgement, one: Candidate) -> str:
    """Say which parameters differ."""
    if not one.parameters:
        return f"No parameter differs that can change a prediction: {one.name} and {judgement.base} are one recipe."
    lines = [f"  {key}: {shown(a)} -> {shown(b)}" for key, (a, b) in one.parameters.items()]
    if len(lines) > KEYS_LISTED:
        lines[KEYS_LISTED:] = [f"  and {len(lines) - KEYS_LISTED} more (--json has all)"]
    return "\n".join(["Parameters that differ:", *lines])


def _tested(judgement: Judgement, looks: Looks | None) -> str:
    """Say on what it was tested, and how often the test split has been looked at."""
    first = judgement.tested[0]
    if len(judgement.tested) > 1:
        said = f"On the {judgement.split} images of {len(judgement.tested)} splits of the data; "
    else:
        groups = f" in {int(first.groups.max()) + 1} groups" if first.in_groups else ""
        said = f"On {len(first.actual)} {judgement.split} images{groups}; "
    said += ", ".join(f"{one.name}: {_count(len(one.runs), 'run')}" for one in judgement.sets) + "."
    for one in judgement.candidates:
        if m := one.models:
            test = "an exact test by groups" if first.in_groups else "McNemar's exact test"
            said += (
                f"\n{m.only_b_right} images are right in {one.name} only and {m.only_a_right} in {judgement.base} only "
                f"({test}: p = {m.p_value:.2g}); the predictions differ on {m.predictions_differ}."
            )
    if looks:
        said += (
            f"\nTested on this test split so far: {_count(looks.models, 'different model')}, in "
            f"{_count(looks.experiments, 'experiment')} and {_count(looks.commits, 'commit')}, these runs among them"
            + (
                f"; of {looks.unknown} more DVC's cache no longer has the images, so they may be of it or not"
                if looks.unknown
                else ""
            )
            + ". The more of them somebody chose by, the more the best one looks better than it is."
        )
    return said


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
    for name, images in (
        (judgement.base, [image for image in one.changed if image.gained < 0]),
        (one.name, [image for image in one.changed if image.gained > 0]),
    ):
        title = f"Right in {name} only" if one.models else f"Images on which {name} is right more often"
        if len(images) > listed:
            title += f", the {listed} most telling of {len(images)} (--json has all)"
        rows = [["file", "actual", judgement.base, one.name]]
        rows += [[image.file, image.actual, *_said(image, one)] for image in images[:listed]]
        if images:
            tables.append((f"{title}:", rows))
    return tables


def _said(image: Changed, one: Candidate) -> list[str]:
    """Return what the base and a candidate say of an image: models the class, recipes how many runs are right."""
    if one.models:
        return list(image.predicted)
    return [
        f"{right} of {runs} right" + (f", most say {said}" if said != image.actual else "")
        for right, runs, said in zip(image.right, image.runs, image.predicted, strict=True)
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Set columns two spaces apart, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)] for row in rows)
    return "\n".join("  ".join([row[0].ljust(widths[0]), *cells]) for row, cells in zip(rows, lines, strict=True))


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    header, *body = ("| " + " | ".join(map(_escaped, row)) + " |" for row in rows)
    return "\n".join([header, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def _escaped(text: str) -> str:
    """Return the text in such a way that Markdown shows it as it is."""
    return "".join(f"\\{c}" if c in "\\`*_|<>[]" else c for c in text)
