"""The hub: a model that is named as the hub names it is fetched, as a folder; what is none is said."""

import sys

import pytest

from suite.cli import main
from suite.registry import Unusable
from suite.studying import hub

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """A hub that has every model, and what it was asked for."""
    asked = []

    def snapshot_download(name, revision, local_dir, allow_patterns):
        asked.append((name, revision))
        assert not any(one.endswith(".py") for one in allow_patterns)
        local_dir.mkdir(parents=True)
        (local_dir / "config.json").write_text("{}")

    monkeypatch.setenv("SPARSEMARK_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_name_of_the_hub_is_a_folder_of_that_name(fetched):
    assert hub.folder("org/tiny-2.5").name == "tiny-2.5" and fetched == [("org/tiny-2.5", None)]
    at = hub.folder("org/tiny@v1/b")
    assert at.name == "tiny" and fetched[1] == ("org/tiny", "v1/b") and (at / "config.json").is_file()


@pytest.mark.parametrize("text", ["byte_lm", "./a/b", "a/b/c", "../b", "a/..", "/a/b", "a\\b"])
def test_what_the_hub_has_no_such_names_for_is_a_path(text, fetched):
    assert str(hub.folder(text)) == str(hub.Path(text)) and not fetched


def test_a_folder_that_is_here_is_taken_as_it_is(tmp_path, monkeypatch, fetched):
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub.folder("org/tiny") == hub.Path("org/tiny") and not fetched


def test_what_cannot_be_fetched_is_said_in_a_sentence(fetched, monkeypatch, tmp_path, capsys):
    def refuse(*_, **__):
        raise OSError("401 Client Error.\nTry again.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    corpus = tmp_path / "text.txt"
    corpus.write_text("a text")
    for words in (("study",), ("run", "attention")):
        with pytest.raises(SystemExit) as ended:
            main((*words, "--model", "org/closed", "--corpus", str(corpus)))
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert "it cannot be fetched: 401 Client Error. Name a folder" in said and "Traceback" not in said


def test_without_its_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(Unusable, match=r"pip install 'sparsemark\[llm\]'"):
        hub.folder("org/tiny")
