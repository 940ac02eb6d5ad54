"""CUDA C++ without a GPU: it compiles for every architecture, is kept by its content, and errors are told."""

import re

import pytest

from suite.cuda import nvrtc
from suite.cuda.windows import PROBES

pytestmark = pytest.mark.skipif(bool(nvrtc.uncompilable()), reason="; ".join(nvrtc.uncompilable()))

ARCHITECTURES = ("sm_80", "sm_89", "sm_90a")
SOURCE = """#include "scale.cuh"
#include <cuda_fp16.h>
extern "C" __global__ void twice(__half* x) { x[threadIdx.x] = scaled(x[threadIdx.x]); }
"""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSEMARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path):
    (tmp_path / "scale.cuh").write_text("__device__ __half scaled(__half x) { return x + x; }\n")
    file = tmp_path / "twice.cu"
    file.write_text("#include <cuda_fp16.h>\n" + SOURCE)
    return file


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_probes_compile(architecture):
    assert nvrtc.cubin(PROBES, architecture).read_bytes().startswith(b"\x7fELF")


def test_what_was_compiled_is_kept_until_source_or_header_changes(source):
    first = nvrtc.cubin(source, "sm_80")
    before = first.stat().st_mtime_ns
    assert nvrtc.cubin(source, "sm_80") == first and first.stat().st_mtime_ns == before
    assert nvrtc.cubin(source, "sm_80", "-DMORE") != first != nvrtc.cubin(source, "sm_90a")
    header = source.with_name("scale.cuh")
    header.write_text(header.read_text().replace("x + x", "x * x"))
    assert nvrtc.cubin(source, "sm_80") != first


def test_a_mistake_is_told_in_the_compilers_words(source):
    source.write_text(source.read_text().replace("scaled(", "sclaed("))
    with pytest.raises(nvrtc.BuildFailed) as failed:
        nvrtc.cubin(source, "sm_80")
    assert re.search(r'twice\.cu.*identifier "sclaed" is undefined', str(failed.value), re.DOTALL)


def test_without_a_compiler_there_is_a_sentence(source, monkeypatch):
    monkeypatch.setattr(nvrtc, "_library", lambda: None)
    (reason,) = nvrtc.uncompilable()
    assert "pip install nvidia-cuda-nvrtc" in reason and reason in nvrtc.missing()
    with pytest.raises(nvrtc.BuildFailed, match="needs NVRTC"):
        nvrtc.cubin(source, "sm_80")
