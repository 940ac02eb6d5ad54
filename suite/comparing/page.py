"""Page: a comparison as a page of its own, which opens from disk and needs no network."""

from pathlib import Path

from suite.comparing import words
from suite.comparing.comparison import Comparison
from suite.comparing.verdicts import AMBIGUOUS, SAME
from suite.report import environment


def page(found: Comparison) -> str:
    """The page whole."""
    folded = [(verdict, words.of(found, verdict)) for verdict in (AMBIGUOUS, SAME)]
    return (
        environment(Path(__file__).parent, measured=False)
        .get_template("comparison.html")
        .render(
            headline=words.headline(found),
            setting=words.setting(found),
            remarks=found.remarks,
            changed=words.rows(words.of(found, *words.CHANGED)),
            folded=[
                {
                    "verdict": verdict.lower(),
                    "meaning": words.meaning(found, verdict),
                    "watching": words.watching(some),
                    "rows": words.rows(some),
                }
                for verdict, some in folded
                if some
            ],
            means=[(one.kernel, one.workload, one.cases, words.change(one)) for one in found.means],
            rule=found.rule,
            stops=len(found.stopping),
        )
    )
