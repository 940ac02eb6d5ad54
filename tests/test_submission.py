"""Submissions: what may be published, what is left out of it, who stands behind it, and CI."""

import json
import subprocess
from datetime import date
from importlib import metadata
from pathlib import Path

import pytest
from lines import STARTED, line, write
from msgspec.structs import replace
from submissions import ABOUT, GPU, KEY, NOW, good, run, with_line

from suite import report
from suite.cli import main
from suite.cpu.device import Cpu
from suite.reading.about import is_old
from suite.reading.state import states
from suite.record import Ceilings, Line, Recorded, Result, Run, encode, read
from suite.registry import PLUGINS, load_plugin, origin
from suite.submitting.check import Checked, check
from suite.submitting.header import Cpu as CpuPrint
from suite.submitting.header import Gpu, of_device
from suite.submitting.scrub import names_here, scrubbed

ROOT = Path(__file__).parent.parent


def checked(folder: Path, *lines: Line) -> Checked:
    return check(read(write(folder / "run.jsonl", *lines)), NOW)


def says(folder: Path, *lines: Line) -> list[str]:
    return [f"{fault.line}: {fault.says}" for fault in checked(folder, *lines).faults]


def test_a_good_run_may_be_published(tmp_path: Path) -> None:
    assert says(tmp_path, *good()) == []


@pytest.mark.parametrize("file", sorted((ROOT / "results").rglob("*.jsonl")), ids=lambda file: file.stem)
def test_the_committed_results_may_be_published_and_are_ours(file: Path) -> None:
    recorded = read(file)
    assert not check(recorded).faults and not recorded.torn
    assert [one.name for one in states([recorded])] == ["ours"]


HEADERS = {
    "no commit": (run(commit=None), "no commit: measure from a checkout"),
    "changed tree": (run(commit="c0ffee5c0ffe+12345678"), "is of a changed tree: commit the changes"),
    "future": (run(started="2036-01-02T03:04:05+00:00"), "which is still to come"),
    "no torch": (run(libraries={"python": "3.12.1"}), "the version of torch is not stated"),
    "one visit": (run(options={"visits": 1}), "1 visits planned: fewer than 3"),
    "two devices": (run(devices={KEY: ABOUT, "other": GPU}), "2 devices; a file to be shared is of one"),
    "no fingerprint": (run(devices={KEY: {}}), "is of no known kind; there are cpu, cuda"),
    "odd kind": (run(devices={KEY: ABOUT | {"kind": ["cpu"]}}), "devices: made-up-9000-2c"),
    "half a fingerprint": (
        run(devices={KEY: {"kind": "cpu", "name": "x"}}),
        "missing required field `model`",
    ),
    "more in it": (run(devices={KEY: ABOUT | {"owner": "me"}}), "unknown field `owner`"),
    "another's key": (run(devices={KEY: ABOUT | {"model": "Other"}}), "does not fit its name Made Up 9000"),
    "plug-in": (run(plugins=[{"file": "mine.py", "hash": "1"}]), "mine.py has no licence: state __license__"),
    "no install": (
        run(plugins=[{"distribution": "theirs", "license": "MIT", "install": None}]),
        "plug-in theirs has no one-line install",
    ),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_says_what_others_need(what: str, tmp_path: Path) -> None:
    made, sentence = HEADERS[what]
    found = says(tmp_path, made, *good()[1:])
    assert any(sentence in one and one.startswith("1: ") for one in found), found


LINES = {
    "below the roofline": ({"seconds": [1e-9] * 20}, "alone allows no less than"),
    "samples": ({"calls": 3}, "20 samples of 3 calls"),
    "visits": ({"visit": 7}, "visit 7 of 3"),
    "hours": ({"calls": 10**8}, "s of calls, and 1 s passed"),
    "later": ({"started": "2036-01-02T03:04:05+00:00"}, "which is still to come"),
    "earlier": ({"started": "2016-01-02T03:04:05+00:00"}, "before the run did"),
    "nominal": ({"flops_nominal": 2**40}, "flops_nominal is 1099511627776; sizes make it"),
    "useful": ({"flops_useful": 1}, "flops_useful is 1; its nonzeros make it"),
    "no FLOPs": ({"flops_nominal": None}, "times without the FLOPs they stand for"),
    "dense": ({"dense": True, "flops_executed": 10**6}, "a dense kernel that executes"),
    "sparsity": ({"sparsity": 0.99}, "sparsity is 0.99; unstructured@"),
    "bytes": ({"bytes_values": 1, "bytes_metadata": 1}, "1 bytes of values; its nonzeros alone are"),
    "sizes": ({"sizes": {"m": 1, "k": 1024, "n": 1}}, "sizes is {'m': 1, 'k': 1024, 'n': 1}, and"),
    "dtype": ({"dtype": "float16"}, "dtype is float16, and float32 in its case"),
    "pattern": ({"pattern": "2:4"}, "pattern is 2:4, and unstructured@"),
    "no pattern": ({"case": "spmm/m=4,k=4,n=4/mine@1/float32/seed=0"}, "case: no pattern 'mine@1'"),
    "no op": ({"case": "sppm/m=4,k=4,n=4/2:4/float32/seed=0"}, "no op 'sppm'"),
    "no such case": ({"case": "spmm/m=4,k=6,n=4/0:0/float32/seed=0"}, "case: "),
    "device": ({"device": "other"}, "device other is not in the header"),
    "workload": ({"workload": "other"}, "workload other is not in the header"),
}


@pytest.mark.parametrize("what", LINES)
def test_a_line_that_cannot_be_is_named(what: str, tmp_path: Path) -> None:
    changes, sentence = LINES[what]
    later = {"started": "2026-01-02T03:04:06+00:00"} if what == "hours" else {}
    lines = with_line(**changes)
    found = says(tmp_path, *lines[:-1], replace(lines[-1], **later))
    at = "1: " if what == "hours" else "21: "
    assert any(sentence in one and one.startswith(at) for one in found), found


def test_without_ceilings_or_results_there_is_nothing_to_judge(tmp_path: Path) -> None:
    assert says(tmp_path, run()) == ["1: no result in it"]
    (found,) = says(tmp_path, run(), *good()[2:])
    assert "no ceilings of made-up-9000-2c" in found


def test_what_is_unusual_is_named_and_allowed(tmp_path: Path) -> None:
    found = checked(tmp_path, *good(sparsities=(0.5, 0.99)))
    assert not found.faults
    assert all("17x as fast as the best dense kernel" in one.says for one in found.unusual)
    assert [one.line for one in found.unusual] == [9, 17, 25]


def test_the_devices_of_this_version_are_known() -> None:
    here = Cpu(1)
    assert not list(of_device(here.key, {"kind": here.kind, "name": here.name, **here.fingerprint()}))
    assert not list(of_device("nvidia-z9-80gb", GPU))
    assert set(GPU) == set(Gpu.__struct_fields__) and set(ABOUT) == set(CpuPrint.__struct_fields__)


def test_validate_says_every_fault_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "run.jsonl", *with_line(calls=3))
    assert ended("validate", file) == 0
    assert ended("validate", "--submission", file) == 1
    out = capsys.readouterr().out
    assert f"{file}:21: 20 samples of 3 calls" in out
    ended("validate", "--submission", "--json", file)
    (about,) = json.loads(capsys.readouterr().out)
    assert about["faults"] == [{"line": 21, "says": "20 samples of 3 calls"}]
    assert [one["line"] for one in about["unusual"]] == [25, 49, 73]


def ended(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code  # pyright: ignore


NAMES = {"user name": {"jdoe"}, "host name": {"node17"}}
HOME = "/".join(("", "home", "jdoe"))
TOLD = {
    f"OSError: {HOME}/models/model.pt": "OSError: [home folder]/model.pt",
    "see ~/secret/x.log or ~jdoe/y": "see [home folder]/x.log or [home folder]/y",
    "in /mnt/fast/bench/kernel.so, line 3": "in [path]/kernel.so, line 3",
    r"C:\Users\jdoe\a.txt and D:\data\b.txt": r"[home folder]\a.txt and [path]/b.txt",
    "ask jane.doe@example.org": "ask [e-mail address]",
    "GPU-12345678-1234-1234-1234-123456789abc": "[serial number]",
    "on 00:1b:44:11:3a:b7, Serial Number: XK-2231": "on [serial number], [serial number]",
    "jdoe@node17 ran it": "[user name]@[host name] ran it",
    "reading /sys/class/powercap/intel-rapl needs root": None,
    "needs avx512f and/or amx; see https://example.org/a/b": None,
    "spmm/m=4,k=4,n=4/unstructured@0.5/float32/seed=0": None,
    "10 m/s, 3 /4, ~5 %, node170": None,
}


@pytest.mark.parametrize("text", TOLD)
def test_what_tells_who_and_where_is_left_out(text: str, tmp_path: Path) -> None:
    failed = line(outcome="broken", note=text)
    file = write(tmp_path / "run.jsonl", run(), failed)
    made, removed = scrubbed(file, NAMES)
    file.write_bytes(made)
    (found,) = read(file).results
    assert found.note == (TOLD[text] or text)
    assert bool(removed) == (TOLD[text] is not None) and {one.line for one in removed} <= {2}
    assert replace(found, note=text) == failed


def test_names_of_here_are_known_unless_everybody_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "jdoe")
    monkeypatch.setattr("socket.gethostname", lambda: "node17.lab")
    monkeypatch.setenv("HOME", "/root")
    assert names_here() == {"user name": {"jdoe"}, "host name": {"node17", "node17.lab"}}


def test_submit_checks_scrubs_copies_and_says_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = good()
    torn = write(tmp_path / "mine.jsonl", *lines, line(outcome="broken", note="x", device=KEY))
    text = torn.read_bytes()[:-9]
    torn.write_bytes(text.replace(b'"Linux 6.1"', b'"Linux 6.1 jane@example.org"'))
    into = tmp_path / "a checkout"
    assert ended("submit", torn, "--into", into) == 2
    (into / "results").mkdir(parents=True)
    assert ended("submit", torn, "--into", into) == 0
    out = capsys.readouterr().out
    place = into / "results" / KEY / "2026-01-02T030405.jsonl"
    assert place.read_bytes().replace(b" [e-mail address]", b"") == b"".join(map(encode, lines))
    assert "1 x e-mail address left out, in lines 1" in out
    assert f"git add results/{KEY}/2026-01-02T030405.jsonl" in out
    assert f"cd '{into}'" in out and "open a pull request" in out
    assert ended("submit", place, "--into", into) == 0  # where it lies already
    other = write(tmp_path / "other.jsonl", *good(1))
    assert ended("submit", other, "--into", into) == 2
    assert "is another run already" in capsys.readouterr().err
    bad = write(tmp_path / "bad.jsonl", *with_line(calls=3))
    assert ended("submit", bad, "--into", into) == 1
    assert "Nothing was copied" in capsys.readouterr().err
    assert [file.name for file in place.parent.iterdir()] == [place.name]


def recorded(folder: Path, name: str, seed: int, crossover: float = 0.83, **about) -> Recorded:
    lines = good(seed, crossover=crossover)
    lines[0] = replace(lines[0], devices={KEY: ABOUT | about})
    return read(write(folder / name, *lines))


def test_another_machine_that_agrees_makes_a_re_run(tmp_path: Path) -> None:
    first = recorded(tmp_path, "a.jsonl", 1)
    same = recorded(tmp_path, "b.jsonl", 2)
    again = recorded(tmp_path, "c.jsonl", 3, memory_gib=32)
    unlike = recorded(tmp_path, "d.jsonl", 4, crossover=0.5, memory_gib=64)
    assert [one.name for one in states([first, same])] == ["reported"] * 2
    assert [one.name for one in states([first, again])] == ["re-run"] * 2
    assert [one.name for one in states([first, unlike])] == ["reported"] * 2
    assert "36 speed-ups agree with c.jsonl" in states([first, again])[0].why


def test_a_listed_file_is_ours_until_it_changes(tmp_path: Path) -> None:
    one = recorded(tmp_path / "results" / KEY, "a.jsonl", 1)
    subprocess.run("sha256sum */*.jsonl > OURS", shell=True, cwd=tmp_path / "results", check=True)
    assert [each.name for each in states([one])] == ["ours"]
    with one.file.open("ab") as more:
        more.write(b"\n")
    assert [each.name for each in states([one])] == ["reported"]


def test_after_a_year_a_line_is_old(tmp_path: Path) -> None:
    assert is_old(STARTED, date(2027, 1, 4)) and not is_old(STARTED, date(2027, 1, 2))
    one = recorded(tmp_path, "a.jsonl", 1)
    assert [states([one], date(year, 6, 1))[0].old for year in (2026, 2027)] == [False, True]


def test_pages_say_which_lines_are_old(tmp_path: Path) -> None:
    says = dict.fromkeys(("index.html", "device-*", "case-*"), "more than a year ago")
    says["table-*"] = "reported, old"
    for started, old in (("2020-01-02", True), (f"{date.today()}", False)):
        lines = [replace(one, started=f"{started}T00:00:00+00:00") for one in good(1)]
        site = report.write([write(tmp_path / f"{started}.jsonl", *lines)], tmp_path / started).parent
        for kind, words in says.items():
            assert any(words in page.read_text() for page in site.glob(kind)) == old, kind


def test_a_plug_in_states_its_licence_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.registry.PLUGINS", found := [])
    file = tmp_path / "mine.py"
    file.write_text('__license__ = "MIT"\n__install__ = "curl -O https://example.org/mine.py"\n')
    load_plugin(file)
    assert found[0]["license"] == "MIT" and found[0]["install"].startswith("curl")
    assert found is not PLUGINS

    class Elsewhere(metadata.PathDistribution):
        def __init__(self, direct: object) -> None:
            self.direct = direct
            super().__init__(tmp_path)

        def read_text(self, filename) -> str | None:
            if filename == "direct_url.json":
                return json.dumps(self.direct) if self.direct else None
            about = "Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n"
            return (
                about + "Classifier: License :: OSI Approved :: MIT License\n" if "META" in filename else None
            )

    git = {"url": "https://example.org/r", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    installs = [origin("x", Elsewhere(one)) for one in (None, git, {"url": "file:///srv/x", "dir_info": {}})]
    assert [one["install"] for one in installs] == [
        "pip install theirs==1.2",
        "pip install git+https://example.org/r@abc",
        None,
    ]
    assert {one["license"] for one in installs} == {"MIT License"}


def test_results_have_lines_of_the_kinds_that_are_checked() -> None:
    assert {type(one) for one in good()} == {Run, Ceilings, Result}
