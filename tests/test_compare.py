"""Comparing: every verdict by a file that was built to earn it, and what a gate makes of them."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from lines import header, line, write
from msgspec.structs import replace

from suite import cli
from suite.comparing.comparison import Gate, Incomparable, compare
from suite.comparing.github import annotations, command
from suite.comparing.markdown import ROOM, markdown
from suite.comparing.page import page
from suite.comparing.side import side
from suite.comparing.verdicts import Rule

KERNELS = {"spmm_dense_a": 1e-3, "spmm_dense_b": 1.1e-3, "spmm_mine": 4e-4, "spmm_other": 8e-4}
SPARSITIES = (0.8, 0.9, 0.95)
HOSTILE = "<script>alert(1)</script> | `x` ](http://x) @you ::error::"


def run(file: Path, seed: int, runs: int = 10, spread: float = 0.01, change=lambda one: one, **about) -> Path:
    """A run of four kernels on three cases; `change` edits each line, or drops it with None."""
    rng = np.random.default_rng(seed)
    made = []
    for visit in range(1, runs + 1):
        for sparsity in SPARSITIES:
            for kernel, seconds in KERNELS.items():
                drawn = seconds * np.exp(spread * rng.standard_normal() + 0.002 * rng.standard_normal(9))
                kept = [float(one) for one in drawn]
                about_line = {"sparsity": sparsity, "visit": visit, "dense": "dense" in kernel}
                made.append(change(line(kernel=kernel, seconds=kept, **about_line)))
    return write(file, header(**about), *(one for one in made if one))


def slowed(by: float, kernel: str = "spmm_mine", sparsity: float | None = None):
    """That kernel's lines, so much slower."""

    def change(one):
        if one.kernel != kernel or (sparsity and one.sparsity != sparsity):
            return one
        return replace(one, seconds=[by * second for second in one.seconds])

    return change


def failing(outcome: str, visits=range(99)):
    def change(one):
        if one.kernel != "spmm_mine" or one.visit not in visits:
            return one
        return replace(one, seconds=[], outcome=outcome, note="it is so")

    return change


def without(kernel: str):
    return lambda one: None if one.kernel == kernel else one


def found(base: Path, head: Path, **given):
    return compare(side(base), side(head), **given)


def verdicts(of) -> dict[str, set[str]]:
    made: dict[str, set[str]] = {}
    for one in of.changes:
        made.setdefault(one.point.kernel, set()).add(one.verdict)
    return made


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return run(tmp_path / "base.jsonl", 1)


VERDICTS = {
    "SAME": (lambda one: one, 0),
    "SLOWER": (slowed(1.1), 1),
    "FASTER": (slowed(0.9), 0),
    "GONE": (without("spmm_mine"), 1),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_falls_on_the_kernel_that_earned_it(verdict: str, base: Path, tmp_path: Path) -> None:
    change, status = VERDICTS[verdict]
    made = found(base, run(tmp_path / "head.jsonl", 2, change=change))
    assert verdicts(made) == {name: {"SAME"} for name in KERNELS} | {"spmm_mine": {verdict}}
    assert made.status == status


@pytest.mark.parametrize("outcome", ["wrong", "broken", "timeout", "memory", "refused"])
def test_what_was_right_and_is_not_is_broken(outcome: str, base: Path, tmp_path: Path) -> None:
    made = found(base, run(tmp_path / "head.jsonl", 2, change=failing(outcome)))
    assert verdicts(made)["spmm_mine"] == {"BROKEN"} and made.status == 1
    assert made.changes[0].why == f"{outcome}: it is so"


def test_once_is_enough_to_be_broken(base: Path, tmp_path: Path) -> None:
    made = found(base, run(tmp_path / "head.jsonl", 2, change=failing("timeout", [3])))
    assert verdicts(made)["spmm_mine"] == {"BROKEN"}
    assert made.changes[0].why == "timeout in 1 of 10 runs: it is so"


def test_what_had_no_right_answer_is_new(base: Path, tmp_path: Path) -> None:
    for change, why in ((without("spmm_mine"), ""), (failing("wrong"), "before: wrong: it is so")):
        made = found(run(tmp_path / "old.jsonl", 3, change=change), base)
        assert verdicts(made)["spmm_mine"] == {"NEW"} and made.status == 0
        assert made.changes[0].why == why


def test_what_fails_on_both_sides_is_no_news(base: Path, tmp_path: Path) -> None:
    both = [run(tmp_path / f"{name}.jsonl", at, change=failing("refused")) for at, name in enumerate("ab")]
    assert "spmm_mine" not in verdicts(found(*both))


def test_too_few_runs_decide_nothing_and_say_so(tmp_path: Path) -> None:
    few = [run(tmp_path / f"{name}.jsonl", at, runs=4, change=slowed(1 + at)) for at, name in enumerate("ab")]
    made = found(*few)
    assert made.counts == {"AMBIGUOUS": 12} and made.status == 0
    assert made.changes[0].why == "4 runs a side; a verdict takes 5"
    assert found(*few, gate=Gate(strict=True)).status == 1


def test_noise_is_ambiguous_and_says_what_could_have_been_seen(tmp_path: Path) -> None:
    noisy = [run(tmp_path / f"{name}.jsonl", at, spread=0.4) for at, name in enumerate("ab")]
    made = found(*noisy)
    assert set(made.counts) == {"AMBIGUOUS"}
    assert all(one.seen > 0.3 and "rule out 10 %" in one.why for one in made.changes)


def test_one_slowed_case_among_others_is_named(base: Path, tmp_path: Path) -> None:
    made = found(base, run(tmp_path / "head.jsonl", 2, change=slowed(1.3, sparsity=0.95)))
    (slow,) = [one for one in made.changes if one.verdict == "SLOWER"]
    assert slow is made.changes[0] and "@0.95" in slow.point.case
    assert slow.low < 0.3 < slow.high and slow.change == pytest.approx(0.3, abs=0.03)


def test_a_slower_machine_is_no_slower_code(base: Path, tmp_path: Path) -> None:
    """Everything takes a fifth longer, dense kernels too; one kernel by more than that."""

    def everything(one):
        return slowed(1.2, one.kernel)(slowed(1.1)(one))

    made = found(base, run(tmp_path / "head.jsonl", 2, change=everything))
    assert verdicts(made) == {name: {"SAME"} for name in KERNELS} | {"spmm_mine": {"SLOWER"}}
    assert all(one.by == "time over dense" for one in made.changes)
    assert any("the machine changed" in one for one in made.remarks)


def test_dense_of_another_torch_is_no_control(base: Path, tmp_path: Path) -> None:
    head = run(tmp_path / "head.jsonl", 2, libraries={"torch": "2.12.0"})
    made = found(base, head)
    assert "torch: 2.11.0, then 2.12.0" in made.remarks
    assert any("no dense kernel is alike" in one for one in made.remarks)
    assert {one.by for one in made.changes} == {"time"}


def test_small_changes_are_none(tmp_path: Path) -> None:
    quiet = [
        run(tmp_path / f"{name}.jsonl", at, spread=1e-4, change=slowed(1 + 0.005 * at))
        for at, name in enumerate("ab")
    ]
    assert set(found(*quiet).counts) == {"SAME"}
    assert verdicts(found(*quiet, rule=Rule(effect=0.002)))["spmm_mine"] == {"SLOWER"}


def test_means_are_per_kernel_and_workload(base: Path, tmp_path: Path) -> None:
    made = found(base, run(tmp_path / "head.jsonl", 2, change=slowed(1.331, sparsity=0.95)))
    means = {one.kernel: one for one in made.means}
    assert set(means) == set(KERNELS) and all(one.cases == 3 for one in made.means)
    assert means["spmm_mine"].low < 0.1 < means["spmm_mine"].high  # the cube root of 1.331
    assert all(one.low < one.change < one.high for one in made.means)


def test_a_folder_is_the_runs_of_one_version(tmp_path: Path) -> None:
    for name, by in (("base", 1.0), ("head", 1.2)):
        for at in range(6):
            run(tmp_path / name / f"{at}.jsonl", 10 * at + int(by > 1), runs=1, change=slowed(by))
    made = found(tmp_path / "base", tmp_path / "head")
    assert verdicts(made)["spmm_mine"] == {"SLOWER"} and made.runs == (6, 6)


OTHERS = {
    "another model": {"name": "Made Up 9001"},
    "another power limit": {"power_limit_watts": 300},
    "fewer cores": {"cores": 1},
}


def device(**changes):
    about = {"kind": "cpu", "name": "Made Up 9000", "cores": 2, "memory_gib": 16, "power_limit_watts": 400}
    return {"made-up": about | changes}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_unlike_devices_are_refused(other: dict, tmp_path: Path) -> None:
    one = run(tmp_path / "a.jsonl", 1, devices=device())
    two = run(tmp_path / "b.jsonl", 2, devices=device(**other))
    with pytest.raises(Incomparable, match=r"not of like devices.*--across insists"):
        found(one, two)
    made = found(one, two, across=True)
    assert set(made.counts) == {"SAME"} and made.noted


def test_devices_of_other_names_are_compared_only_across(tmp_path: Path) -> None:
    one = run(tmp_path / "a.jsonl", 1)
    two = run(
        tmp_path / "b.jsonl",
        2,
        devices={"other": {"name": "Other"}},
        change=lambda one: replace(one, device="other"),
    )
    with pytest.raises(Incomparable, match=r"Made Up 9000, and then on Other"):
        found(one, two)
    assert set(found(one, two, across=True).counts) == {"SAME"}


def test_other_drivers_and_versions_are_noted(tmp_path: Path) -> None:
    one = run(tmp_path / "a.jsonl", 1, devices=device(driver="1"))
    two = run(tmp_path / "b.jsonl", 2, devices=device(driver="2"), version="0.2.0")
    made = found(one, two)
    assert {"driver: 1, then 2", "sparsemark: 0.1.0, then 0.2.0"} <= set(made.remarks)


# Outputs


def put(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    return int(ended.value.code or 0)


@pytest.fixture
def head(tmp_path: Path) -> Path:
    def change(one):
        one = slowed(1.3, sparsity=0.9)(one)
        if one.kernel == "spmm_other" and one.sparsity == 0.8:
            return replace(one, seconds=[], outcome="wrong", note=HOSTILE)
        return one

    return run(tmp_path / "head.jsonl", 2, change=change)


def test_every_output_says_the_same(base: Path, head: Path, tmp_path: Path, capsys) -> None:
    files = {name: tmp_path / "out" / f"c.{name}" for name in ("markdown", "json", "html")}
    options = [word for name, file in files.items() for word in (f"--{name}", file)]
    assert put("compare", base, head, *options) == 1
    said = capsys.readouterr().out
    assert "1 broken, 1 slower, 10 same" in said and "spmm_mine" in said
    assert "::error" not in "".join(row for row in said.splitlines() if row.startswith("::"))
    told = json.loads(files["json"].read_text())
    assert told["counts"] == {"BROKEN": 1, "SLOWER": 1, "SAME": 10} and told["status"] == 1
    assert [one["verdict"] for one in told["changes"]][:2] == ["BROKEN", "SLOWER"]
    assert {"case", "kernel", "change", "low", "high", "seen", "adjusted"} <= told["changes"][1].keys()
    text = files["markdown"].read_text()
    assert text.startswith("### sparsemark: 1 broken, 1 slower, 10 same\n")
    assert text.index("**BROKEN**") < text.index("**SLOWER**") < text.index("<details>")
    assert "could have seen" in text


def test_json_on_standard_output_is_nothing_else(base: Path, head: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert put("compare", base, head, "--json", "-") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["counts"] == {"BROKEN": 1, "SLOWER": 1, "SAME": 10}
    assert said.err.startswith("::error title=BROKEN")


def test_markdown_holds_strangers_words_as_text(base: Path, head: Path) -> None:
    text = markdown(found(base, head))
    assert "<script" not in text and not re.search(r"(?<!\\)\]\(|@you|http://", text)
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {8, 7, 5}


def test_markdown_fits_into_a_comment(tmp_path: Path) -> None:
    def sides(seed):
        rng = np.random.default_rng(seed)
        for at in range(900):
            for visit in range(1, 6):
                seconds = [1e-3 * float(np.exp(0.01 * rng.standard_normal()))]
                yield line(kernel=f"spmm_{at:03}", visit=visit, seconds=seconds)

    one, two = (write(tmp_path / f"{at}.jsonl", header(), *sides(at)) for at in range(2))
    text = markdown(found(one, two))
    assert len(text.encode()) < 65_000 and ROOM < 65_000
    assert re.search(r"and \d+ more", text) and text.count("<details>") == text.count("</details>")


class Strict(HTMLParser):
    """What is opened is closed."""

    void = frozenset({"meta", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.void:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.stack.pop() == tag


def test_the_page_is_sound_and_needs_nothing_beside_it(base: Path, head: Path) -> None:
    text = page(found(base, head))
    strict = Strict()
    strict.feed(text)
    assert not strict.stack and "script" not in strict.tags and "a" not in strict.tags
    assert text.index("BROKEN") < text.index("SLOWER") < text.index("<details")
    assert not re.search(r"(src|href)=\"(?!data:)", text)


def test_a_workflow_gets_annotations_and_a_summary(
    base: Path, head: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert put("compare", base, head) == 1
    _, stop, said = capsys.readouterr().out.partition("::stop-commands::")
    token, _, said = said.partition("\n")
    told, again, said = said.partition(f"::{token}::\n")
    assert stop and again and HOSTILE.split()[-1] in told  # which is no command there
    commands = [row for row in said.splitlines() if row.startswith("::")]
    assert [row.partition("::")[2].partition("::")[0] for row in commands] == [
        "error title=BROKEN spmm_other",
        "error title=SLOWER spmm_mine",
    ]
    assert (tmp_path / "summary.md").read_text().startswith("### sparsemark")


def test_annotations_are_few_and_escaped(base: Path, tmp_path: Path) -> None:
    assert command("error", "a:b,c", "100 %\nnext") == "::error title=a%3Ab%2Cc::100 %25%0Anext"
    gone = write(tmp_path / "few.jsonl", header(), line(kernel="spmm_dense_a", seconds=[1e-3], dense=True))
    assert list(annotations(found(base, gone)))[-2:-1] == ["::error title=sparsemark::and 1 more"]


# Gates and mistakes


def test_gates(base: Path, tmp_path: Path) -> None:
    head = run(tmp_path / "head.jsonl", 2, change=without("spmm_mine"))
    assert put("compare", base, head) == 1
    assert put("compare", base, head, "--allow-gone") == 0


MISTAKES = {
    "no file": (["nowhere.jsonl", "BASE"], 2, "no results file nowhere.jsonl"),
    "empty folder": (["EMPTY", "BASE"], 2, "no results file in"),
    "no results": (["BARE", "BASE"], 3, "holds no usable result"),
    "nothing in common": (["OTHER", "BASE"], 3, "no kernel on a case in common"),
    "not lines": (["RUBBISH", "BASE"], 3, "holds no usable result"),
    "not benchmarks": (["RUBBISH.json", "BASE"], 3, "not a file that `pytest --benchmark-json` wrote"),
    "no share": (["BASE", "BASE", "--effect", "much"], 2, "is not a share"),
    "effect above same": (["BASE", "BASE", "--effect", "20%"], 2, "must be below"),
    "cannot be written": (["BASE", "BASE", "--json", "/proc/none/x.json"], 2, "cannot be written"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_a_sentence(mistake: str, base: Path, tmp_path: Path, capsys) -> None:
    words, status, says = MISTAKES[mistake]
    (tmp_path / "empty").mkdir()
    places = {
        "BASE": base,
        "EMPTY": tmp_path / "empty",
        "BARE": write(tmp_path / "bare.jsonl", header()),
        "OTHER": run(tmp_path / "o.jsonl", 1, change=lambda one: replace(one, kernel=f"{one.kernel}_x")),
        "RUBBISH": tmp_path / "rubbish.jsonl",
        "RUBBISH.json": tmp_path / "rubbish.json",
    }
    (tmp_path / "rubbish.jsonl").write_bytes(b"\x00{\n[1]\n")
    (tmp_path / "rubbish.json").write_bytes(b"[]")
    assert put("compare", *(places.get(word, word) for word in words)) == status
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


def test_damaged_lines_are_named(base: Path, tmp_path: Path) -> None:
    head = run(tmp_path / "head.jsonl", 2)
    with head.open("ab") as more:
        more.write(b'{"kind":"result"}\n')
    made = found(base, head)
    assert set(made.counts) == {"SAME"}
    assert any(one.startswith("head.jsonl: 1 faults, the first:") for one in made.remarks)
