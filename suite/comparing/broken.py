"""Broken: a version that cannot be built or does not run, in every output a comparison has."""

from pathlib import Path
from typing import Any

from suite.comparing import github
from suite.comparing.comparison import REGRESSION
from suite.comparing.markdown import plain
from suite.comparing.verdicts import BROKEN
from suite.comparing.versions import Failed
from suite.report import environment


def text(failed: Failed) -> str:
    """For the terminal: the last lines first, for what matters stands last."""
    return "\n".join((*failed.tail, f"{BROKEN}: {failed.which}: {failed.step} failed"))


def told(failed: Failed) -> dict[str, Any]:
    """For a program."""
    about = {"version": failed.which, "step": failed.step, "tail": failed.tail}
    return {"status": REGRESSION, "counts": {BROKEN: 1}, "broken": about}


def markdown(failed: Failed) -> str:
    """For a comment. The log is indented: no fence in it can end it."""
    lines = [f"### sparsemark: {BROKEN.lower()}", f"{plain(failed.which)}: {plain(failed.step)} failed."]
    return "\n\n".join((*lines, "\n".join(f"    {line}" for line in failed.tail))) + "\n"


def page(failed: Failed) -> str:
    """As a page."""
    found = environment(Path(__file__).parent, measured=False).get_template("broken.html")
    return found.render(which=failed.which, step=failed.step, tail="\n".join(failed.tail))


def annotation(failed: Failed) -> str:
    return github.command("error", f"{BROKEN} {failed.which}", str(failed))
