"""bits: a layer in few bits with groups left out, beside fewer bits, 2:4 and all of it."""

from suite.reading.bits import layers
from suite.reading.statistics import estimate
from suite.report import report


@report
def bits(view):
    """Does sparsity pay on top of few bits, and up to how many tokens a call?"""
    sections = [section(number, one) for number, one in enumerate(layers(view.drawn[1]))]
    if sections:
        yield "bits", {"sections": sections}


def section(number, layer):
    """A layer: what each form takes, and each sparse one of few bits against the others."""
    return {
        **layer.about,
        "id": f"b{number}",
        "tokens": layer.tokens,
        "forms": [
            {"name": form, "bits": layer.bits(form), "best": [best(layer, form, n) for n in layer.tokens]}
            for form in layer.rows
        ],
        "rivalries": layer.rivalries(),
    }


def best(layer, form, n):
    """The fastest kernel of a form, if there is one, and what it takes."""
    row = layer.best(form, n)
    took = row and estimate(list(row.times.values()))
    return {"kernel": row.first.kernel, "seconds": took.middle} if row and took else None
