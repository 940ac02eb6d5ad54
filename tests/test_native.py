"""Native: built once, kept by content, safe with company, and a sentence where there is no compiler."""

import gc
import os
import subprocess
import sys
import weakref
from ctypes import c_int, c_int64
from pathlib import Path

import numpy as np
import pytest
import torch

from suite import native

CAN = native.missing()
needs_compiler = pytest.mark.skipif(bool(CAN), reason="; ".join(CAN))

ANSWER = 'extern "C" int answer() { return ANSWER; }\n'
PARALLEL = """
#include <omp.h>
extern "C" int threads() {
  int most = 0;
#pragma omp parallel reduction(max : most)
  most = omp_get_num_threads();
  return most;
}
"""


SUM = """
#include <cstdint>
extern "C" void sum(const float* a, int negated, const float* b, std::int64_t size, float* out, int every) {
  for (std::int64_t i = 0; i < size; i += every) out[i] = (negated ? -1 : 1) * (a[i] + b[i]);
}
extern "C" std::int64_t less(std::int64_t a, std::int64_t b) { return a - b; }
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPARSEMARK_CACHE", str(folder))
    return folder / "native"


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "answer.cpp"
    file.write_text(ANSWER.replace("ANSWER", "42"))
    return file


def libraries(cache):
    return sorted(cache.glob("*.so"))


@needs_compiler
def test_what_is_kept_is_not_built_again(source, cache, monkeypatch):
    assert native.load(source).answer() == 42
    (kept,) = libraries(cache)
    monkeypatch.setattr(native, "_build", lambda *_: pytest.fail("built again"))
    assert native.load(source).answer() == 42
    assert libraries(cache) == [kept]


@needs_compiler
def test_other_content_and_other_flags_are_other_libraries(tmp_path, cache):
    file = tmp_path / "answer.cpp"
    file.write_text(ANSWER)
    assert native.load(file, "-DANSWER=1").answer() == 1
    assert native.load(file, "-DANSWER=2").answer() == 2
    file.write_text("// edited\n" + ANSWER)
    assert native.load(file, "-DANSWER=2").answer() == 2
    assert len(libraries(cache)) == 3


@pytest.fixture
def with_headers(tmp_path, monkeypatch):
    """A source with a header beside it, which includes a shared one, which includes the first again."""
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setattr(native, "HEADERS", shared)
    texts = {
        tmp_path / "answer.cpp": '#include <cstdint>\n#include "near.h"\n' + ANSWER,
        tmp_path / "near.h": '#pragma once\n #  include "far.h"\n',
        shared / "far.h": '#pragma once\n#include "../near.h"\n#define ANSWER 42\n',
    }
    for file, text in texts.items():
        file.write_text(text)
    return list(texts)


def test_the_parts_of_a_source_are_the_headers_it_includes_at_any_depth(with_headers):
    assert native.parts(with_headers[0]) == with_headers


@needs_compiler
def test_an_edited_header_is_another_library(with_headers, cache):
    source, _, far = with_headers
    assert native.load(source).answer() == 42
    far.write_text(far.read_text().replace("42", "43"))
    assert native.load(source).answer() == 43
    assert len({library.stem[:-17] for library in libraries(cache)}) == 2


@needs_compiler
def test_a_missing_header_is_named(with_headers):
    source, _, far = with_headers
    far.unlink()
    with pytest.raises(native.BuildFailed, match=r"answer\.cpp does not compile(.|\n)*far\.h"):
        native.load(source)


@needs_compiler
@pytest.mark.parametrize("bytes_left", [0, 100, 5000])
def test_a_library_that_was_cut_short_is_rebuilt(source, cache, bytes_left):
    native.load(source)
    (kept,) = libraries(cache)
    whole = kept.read_bytes()
    kept.unlink()  # this process has it mapped
    kept.write_bytes(whole[:bytes_left])
    assert native.load(source).answer() == 42
    assert [native._digest(one) for one in libraries(cache)] == [one.stem[-16:] for one in libraries(cache)]


@needs_compiler
def test_an_unloadable_library_with_the_right_name_is_rebuilt(source, cache):
    native.load(source)
    (kept,) = libraries(cache)
    kept.unlink()
    nonsense = cache / "nonsense"
    nonsense.write_bytes(b"not a library")
    nonsense.rename(cache / f"{kept.stem[:-16]}{native._digest(nonsense)}.so")
    assert native.load(source).answer() == 42


@needs_compiler
def test_two_processes_build_at_once(source, cache):
    program = (
        "import sys; from pathlib import Path; from suite import native\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(native.load(Path(sys.argv[1])).answer())"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for one in racers:
        assert one.stdout.readline() == "ready\n"
    for one in racers:
        one.stdin.write("\n")
        one.stdin.flush()
    assert [one.communicate()[0] for one in racers] == ["42\n", "42\n"]
    assert libraries(cache)
    assert not [one for one in cache.iterdir() if one.name.startswith(".build")]


@needs_compiler
def test_a_folder_that_cannot_be_written_is_gone_round(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPARSEMARK_CACHE", str(tmp_path / "file"))
    assert native.load(source).answer() == 42
    assert "sparsemark-" in native.folder().name
    assert libraries(native.folder())


@needs_compiler
def test_an_error_repeats_the_compilers_last_words(tmp_path):
    file = tmp_path / "broken.cpp"
    file.write_text("int f() { return undeclared_thing; }")
    with pytest.raises(native.BuildFailed, match=r"broken\.cpp does not compile(.|\n)*undeclared_thing"):
        native.load(file)


def test_without_a_compiler_it_says_what_was_looked_for_and_what_to_install(source, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    (reason,) = native.missing()
    assert "c++, g++, clang++ in $PATH" in reason
    assert "apt install g++" in reason
    with pytest.raises(native.BuildFailed, match="needs a C\\+\\+ compiler"):
        native.load(source)


def test_a_compiler_that_was_named_wrongly_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    (reason,) = native.missing()
    assert "no-such-compiler -O1" in reason


@pytest.mark.skipif(os.name != "posix", reason="writes a shell script")
def test_a_compiler_without_openmp_is_a_reason_not_a_crash(monkeypatch, tmp_path):
    fake = tmp_path / "c++"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "unsupported option -fopenmp" >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    (reason,) = native.missing()
    assert "OpenMP" in reason and "unsupported option -fopenmp" in reason


@pytest.fixture
def library(tmp_path):
    file = tmp_path / "sum.cpp"
    file.write_text(SUM)
    return native.load(file)


@needs_compiler
@pytest.mark.parametrize("negated", [False, True])
def test_bound_arguments_stay_and_live_ones_are_given(library, negated):
    a, out = torch.arange(5.0), np.zeros(5, np.float32)
    add = native.bind(library.sum, a, negated, native.LIVE, 5, out, c_int(2))
    for b in (torch.ones(5), torch.full((5,), 2.0)):
        assert add(b) is None
        assert out[::2].tolist() == (((-1) ** negated) * (a + b))[::2].tolist()
        assert not out[1::2].any()
    a[0] = 9
    add(torch.ones(5))
    assert abs(out[0]) == 10  # what is bound is where it was, not what it was


@needs_compiler
def test_numbers_have_64_bits_live_or_not_and_the_answer_too(library):
    far = 2**62
    assert native.bind(library.less, far, -far + 1, returns=c_int64)() == 2 * far - 1
    less = native.bind(library.less, native.LIVE, native.LIVE, returns=c_int64)
    assert less(-far, 5) == -far - 5
    assert less(5, -far) == far + 5


@needs_compiler
def test_what_is_bound_is_kept(library):
    a, b = torch.ones(5), torch.ones(5)
    out = torch.zeros(5)
    gone = weakref.ref(a), weakref.ref(b)
    add = native.bind(library.sum, a, False, b, 5, out, c_int(1))
    del a, b
    gc.collect()
    assert all(one() is not None for one in gone)
    add()
    assert out.tolist() == [2] * 5
    del add
    gc.collect()
    assert not any(one() is not None for one in gone)


@needs_compiler
@pytest.mark.parametrize("live", [0, 2])
def test_a_wrong_count_of_live_arguments_is_told(library, live):
    add = native.bind(library.sum, torch.ones(5), False, native.LIVE, 5, torch.ones(5), c_int(1))
    with pytest.raises(TypeError, match=f"sum: 1 of 6 arguments are live, got {live}"):
        add(*[torch.ones(5)] * live)


@needs_compiler
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_torch_and_native_code_share_one_openmp_runtime(tmp_path):
    file = tmp_path / "parallel.cpp"
    file.write_text(PARALLEL)
    program = (
        "import sys; from pathlib import Path; from suite import native; import torch\n"
        "torch.set_num_threads(1); torch.mm(torch.ones(64, 64), torch.ones(64, 64))\n"
        "print(native.load(Path(sys.argv[1])).threads(), *native.runtimes(), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    threads, *names = done.stdout.splitlines()
    assert len(names) == 1, names
    assert threads == "1"  # what torch was told holds for native code too
    assert Path(names[0]).exists()
